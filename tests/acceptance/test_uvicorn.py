"""A uvicorn process: fire by requests, stop by signals, read the rows."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Callable
from uuid import UUID

import httpx
import pytest

from tests import databases
from tests.servers import Server

StartServer = Callable[..., Server]

LANES = databases.LANES
JOURNAL = 1

both_middlewares = pytest.mark.parametrize("middleware", ["", "sync"], ids=["all-async", "one-sync-middleware"])


@both_middlewares
def test_orm_after_the_response(start_server: StartServer, middleware: str) -> None:
    """200 tasks use the ORM after their request has ended; connections stay bounded and none is left idle."""
    server = start_server(TESTS_SYNC_MIDDLEWARE=middleware)
    highest = 0

    server.fire("use_orm", "{}", 0.3, times=200)
    while server.count_by_status().get("SUCCESSFUL", 0) < 200:
        highest = max(highest, server.count_connections())
        assert "FAILED" not in server.count_by_status(), server.log

    assert highest <= LANES + JOURNAL
    assert len(server.query("SELECT 1 FROM auth_group")) == 400
    server.wait_until(lambda: server.count_connections() <= JOURNAL, "no connection is left idle", seconds=10)
    assert server.stop() == -signal.SIGTERM
    assert server.count_by_status() == {"SUCCESSFUL": 200}


@both_middlewares
def test_sigterm_with_running_tasks(start_server: StartServer, middleware: str) -> None:
    """Tasks that finish in time are successful; the others are interrupted or go back to the table."""
    server = start_server(TESTS_SYNC_MIDDLEWARE=middleware, TESTS_DRAIN_TIMEOUT="2")
    path = str(server.folder / "marks")

    server.fire("sleep", 3600, times=3)
    server.fire("sleep_and_rerun", 3600, times=2)
    server.fire("clean_up_when_cancelled", path)
    server.fire("ignore_cancellation", 3600)
    server.client.get("/coroutine", params={"seconds": 3600})
    server.fire("use_orm", "{}", 1.0, times=20)  # The last: they must not be over before the signal.
    began = time.monotonic()
    assert server.stop() == -signal.SIGTERM

    assert 3.0 <= time.monotonic() - began < 10  # The timeout and the grace, with room for a slow machine.
    assert server.count_by_status() == {"SUCCESSFUL": 20, "INTERRUPTED": 6, "READY": 2}
    ready = server.query("SELECT attempt, process, name FROM bgtasks_backgroundtask WHERE status = 'READY'")
    assert ready == [{"attempt": 0, "process": None, "name": "tests.app.tasks.sleep_and_rerun"}] * 2
    assert (server.folder / "marks").read_text() == "cleaned up\n"
    [drain] = server.query("SELECT * FROM bgtasks_drain")
    numbers = [drain[name] for name in ("running_at_start", "finished_count", "cancelled_count", "left_count")]
    assert numbers == [28, 20, 7, 1]
    assert json.loads(drain["names"])["tests.app.tasks.sleep"] == 3
    assert [row["state"] for row in server.query("SELECT state FROM bgtasks_process")] == ["STOPPED"]
    assert "drained with 0 pending" in server.log
    assert "Task was destroyed" not in server.log
    assert "never awaited" not in server.log


def test_a_task_that_was_interrupted_runs_again_at_the_next_boot(start_server: StartServer) -> None:
    server = start_server(TESTS_DRAIN_TIMEOUT="0")
    server.fire("sleep_and_rerun", 1.5)
    server.stop()
    assert server.count_by_status() == {"READY": 1}

    second = start_server()

    second.wait_for_statuses({"SUCCESSFUL": 1})
    [row] = second.rows()
    assert row["attempt"] == 1
    assert [entry["status"] for entry in json.loads(row["transitions"])] == [
        "RUNNING",
        "READY",
        "RUNNING",
        "SUCCESSFUL",
    ]


def test_children_of_draining_tasks_are_drained(start_server: StartServer) -> None:
    server = start_server()
    server.fire("fire_child_when_draining", 0.5, times=3)
    server.stop()
    assert server.count_by_status() == {"SUCCESSFUL": 6}


def test_nothing_is_lost_when_requests_go_on_during_the_signal(start_server: StartServer) -> None:
    """A request that is open at the signal still fires, and its task is drained too."""
    server = start_server()
    with httpx.Client(base_url=str(server.client.base_url), timeout=30) as client:
        request = client.build_request("GET", "/fire/sleep", params={"args": "[0.5]", "times": 5, "linger": "1"})
        answers: list[httpx.Response] = []
        thread = threading.Thread(target=lambda: answers.append(client.send(request)))
        thread.start()
        server.wait_until(lambda: len(server.rows()) == 5, "five tasks are recorded")
        server.stop()
        thread.join(10)
    assert answers[0].status_code == 200
    assert server.count_by_status() == {"SUCCESSFUL": 5}


def test_a_client_that_disconnects_cancels_no_task(start_server: StartServer) -> None:
    """The client disconnects while the view awaits the handles: the view is cancelled, the tasks are not."""
    server = start_server()
    with pytest.raises(httpx.ReadTimeout):
        server.client.get("/fire/sleep", params={"args": "[1.0]", "times": 5, "wait": "1"}, timeout=0.3)
    server.wait_for_statuses({"SUCCESSFUL": 5})


def test_the_collector_takes_no_waiting_task(start_server: StartServer) -> None:
    server = start_server()
    server.fire("sleep", 1.5, times=100)
    server.client.get("/collect")
    server.client.get("/collect")
    server.wait_for_statuses({"SUCCESSFUL": 100})
    assert "Task was destroyed" not in server.log


if sys.version_info >= (3, 12):  # The first version of asyncio with eager task factories.

    def test_an_eager_factory_runs_nothing_inside_fire(start_server: StartServer) -> None:
        """The view answers before the first line of the task, which blocks the loop and would delay the answer."""
        server = start_server(TESTS_EAGER="1")
        [answer] = [server.client.get("/eager").json()]
        assert answer == {"started_inside_fire": False, "factory_is_eager": True}
        server.wait_for_statuses({"SUCCESSFUL": 1})


def test_ten_thousand_at_once(start_server: StartServer) -> None:
    """Many more tasks than slots: they wait in the table, are started from there, and each ends once."""
    server = start_server()
    ids = server.fire("succeed", "{}", times=10_000)
    server.wait_for_statuses({"SUCCESSFUL": 10_000}, seconds=100)
    rows = server.rows()
    assert {UUID(row["id"]) for row in rows} == {UUID(value) for value in ids}
    assert sorted(json.loads(row["result"]) for row in rows) == list(range(10_000))
    assert {row["attempt"] for row in rows} == {1}
    [process] = server.query("SELECT fired_count FROM bgtasks_process")
    assert process["fired_count"] == 10_000


def test_two_processes_share_what_waits(start_server: StartServer) -> None:
    """No task is started twice, and the idle process takes its share."""
    first = start_server(TESTS_MAX_RUNNING="5")
    second = start_server(TESTS_MAX_RUNNING="5")
    path = str(first.folder / "marks")
    batches = 0

    def both_take_part() -> bool:
        """Fire further batches until both take part: a process that is slow to claim always finds tasks."""
        nonlocal batches
        first.fire("mark", path, "{}", 0.05, times=100)
        batches += 1
        first.wait_until(lambda: first.count_by_status().get("READY", 0) < 50, "half of the batch has begun")
        return len({row["process"] for row in first.rows()} - {None}) == 2

    first.wait_until(both_take_part, "both processes run tasks")
    first.wait_for_statuses({"SUCCESSFUL": 100 * batches})
    lines = (first.folder / "marks").read_text().split("\n")[:-1]
    assert sorted(lines) == sorted([f"{what} {n}" for what in ("start", "end") for n in range(100)] * batches)
    assert {row["attempt"] for row in first.rows()} == {1}
    assert second.stop() == -signal.SIGTERM
    assert first.stop() == -signal.SIGTERM


def test_recorded_first(start_server: StartServer) -> None:
    """A view that awaits `afire` answers after the commit: a SIGKILL right after the answer loses no row."""
    server = start_server()
    ids = server.fire("sleep", 60, times=20, recorded=1)
    server.process.kill()
    server.wait()
    assert {UUID(row["id"]) for row in server.rows()} == {UUID(value) for value in ids}


def test_the_requests_are_recorded(start_server: StartServer) -> None:
    server = start_server()
    server.client.get("/fire/succeed", headers={"X-Request-ID": b"abc\xff"})
    server.wait_for_statuses({"SUCCESSFUL": 1})
    [row] = server.rows()
    assert json.loads(row["fired_by"]) == {"method": "GET", "path": "/fire/succeed", "request_id": "abc\xff"}


def test_sigint_drains_as_well(start_server: StartServer) -> None:
    server = start_server()
    server.fire("sleep", 0.7, times=4)
    server.stop(signal.SIGINT)
    assert server.count_by_status() == {"SUCCESSFUL": 4}


def test_uvloop_and_httptools(start_server: StartServer) -> None:
    pytest.importorskip("uvloop")
    server = start_server(flags=("--loop", "uvloop"))
    server.fire("use_orm", "{}", 0.1, times=50)
    server.fire("sleep", 0.7, times=50)
    server.stop()
    assert server.count_by_status() == {"SUCCESSFUL": 100}


def test_a_database_that_is_locked_at_the_end_does_not_keep_the_server(start_server: StartServer) -> None:
    """The server ends by its deadline, and logs the last states that it could not record."""
    server = start_server(TESTS_DRAIN_TIMEOUT="1")
    server.fire("sleep", 3600, times=5)
    server.wait_for_statuses({"RUNNING": 5})
    deadline = 1 + 1 + 3  # DRAIN_TIMEOUT, CANCEL_GRACE and FLUSH_TIMEOUT.
    with databases.WriteLock(server.database):
        began = time.monotonic()
        server.stop()
        took = time.monotonic() - began
    assert took < deadline + 8, server.log  # With room for a slow machine.
    assert "Not everything could be written in time" in server.log
    assert "tests.app.tasks.sleep ×5" in server.log
    assert server.count_by_status() == {"RUNNING": 5}
