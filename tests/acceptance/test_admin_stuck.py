"""The Stuck page after a SIGKILL, when no running process is left to give verdicts."""

from __future__ import annotations

from contextlib import closing

from tests.acceptance.test_admin import log_in, press


def test_the_task_of_a_killed_server_gets_its_verdict_from_the_page(start_server):
    runs = start_server(name="uvicorn")
    shows = start_server(name="gunicorn-sync", TESTS_DEAD_AFTER="1.5")  # WSGI: no runtime, no rescue.
    [lost, left] = runs.fire("sleep", 3600, times=2, recorded=1)
    runs.wait_for_statuses({"RUNNING": 2})
    runs.kill()

    with closing(log_in(shows)) as client:
        page = "/admin/bgtasks/stucktask/"
        shows.wait_until(lambda: lost in client.get(page).text, "it is shown as stuck")
        assert "No process is up to see whether it died" in client.get(page).text
        press(client, page, f"{page}apply/", task=lost)
        assert "is watched for" in client.get(page).text
        shows.wait_for_statuses({"LOST": 1, "RUNNING": 1})
        assert lost not in client.get(page).text
        assert left in client.get(page).text
        press(client, page, f"{page}apply/", one=left)  # By now the process is declared dead.
        shows.wait_for_statuses({"LOST": 2})
        assert "Nothing is stuck." in client.get(page).text
