"""Each server that Django supports: tasks while it serves, and tasks when it stops."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable

import pytest

from tests import databases
from tests.servers import Server

StartServer = Callable[..., Server]

pytestmark = pytest.mark.slow

JOURNAL = 1
DRAIN_TIMEOUT = "5"  # Seconds: many times the time of the tasks that finish, also on a busy machine.
BEFORE_THE_STOP = "SELECT 1 FROM auth_group WHERE name LIKE 'before 2__'"

# uvicorn ends as by an unhandled signal; under gunicorn only its worker does.
EXIT_STATUS = {"uvicorn": -signal.SIGTERM}

ASGI_SERVERS = ["uvicorn", "hypercorn", "granian", "daphne", "gunicorn-uvicorn"]
WSGI_SERVERS = ["gunicorn-sync", "gunicorn-gthread"]


@pytest.mark.parametrize("middleware", ["", "sync"], ids=["all-async", "one-sync-middleware"])
@pytest.mark.parametrize("name", ASGI_SERVERS)
def test_an_asgi_server(start: StartServer, name: str, middleware: str) -> None:
    """Tasks outlive their requests with few connections, and all end in the right state when the server stops."""
    server = start(name, TESTS_SYNC_MIDDLEWARE=middleware, TESTS_DRAIN_TIMEOUT=DRAIN_TIMEOUT)

    check_orm_after_the_response(server)
    check_stop(server)

    [process] = server.query("SELECT * FROM bgtasks_process")
    assert (process["state"], process["server"]) == ("STOPPED", name.split("-")[0])
    assert process["has_lifespan"]
    assert "drained with 0 pending" in server.log
    assert "No drain is active" not in server.log


@pytest.mark.parametrize("name", WSGI_SERVERS)
def test_a_wsgi_server(start: StartServer, name: str) -> None:
    """Tasks run on the bridge loop and are drained when the worker's interpreter exits."""
    server = start(name, TESTS_DRAIN_TIMEOUT=DRAIN_TIMEOUT)

    check_orm_after_the_response(server)
    check_stop(server)

    [process] = server.query("SELECT * FROM bgtasks_process")
    assert (process["state"], process["server"]) == ("STOPPED", "gunicorn")


def test_hypercorn_that_loses_patience(start: StartServer) -> None:
    """hypercorn's shutdown_timeout is shorter than the drain: it cancels all tasks. Their last states are written."""
    server = start("hypercorn", flags=("--config", "python:tests.app.impatient_hypercorn"), TESTS_DRAIN_TIMEOUT="20")
    fire_what_a_stop_meets(server)
    began = time.monotonic()

    server.stop()

    assert time.monotonic() - began < 10
    check_rows_after_stop(server, finished=0, left=0)


def test_daphne_serves_while_it_drains(start: StartServer) -> None:
    """Tasks fired then wait for another process; coroutines, which no other process could start, are refused."""
    server = start("daphne")
    server.fire("sleep", 1.5)
    server.process.send_signal(signal.SIGTERM)
    server.wait_until(lambda: server.query("SELECT state FROM bgtasks_process") == [{"state": "DRAINING"}], "it drains")

    server.fire("succeed")
    refused = server.client.get("/coroutine", params={"seconds": 0})

    assert refused.status_code == 500
    assert server.wait() == 0
    assert "bgtasks.exceptions.Draining: This process is draining" in server.log
    assert server.count_by_status() == {"SUCCESSFUL": 1, "READY": 1}
    [drain] = server.query("SELECT asked_by FROM bgtasks_drain")
    assert drain == {"asked_by": "Daphne's reactor"}


def test_daphne_without_lifespan_wrapper(start: StartServer) -> None:
    """The first `fire` finds the reactor, as the wrapper does."""
    server = start("daphne", TESTS_UNWRAPPED="1")
    server.fire("sleep", 0.5, sync=True)
    assert server.stop() == 0
    assert server.count_by_status() == {"SUCCESSFUL": 1}
    assert "No drain is active" not in server.log


@pytest.mark.parametrize("unwrapped", ["", "1"], ids=["lifespan-off", "unwrapped"])
def test_a_server_that_sends_no_lifespan(start: StartServer, unwrapped: str) -> None:
    """One warning announces that running tasks will be killed. They are killed, and their rows stay RUNNING."""
    server = start("uvicorn", flags=("--lifespan", "auto" if unwrapped else "off"), TESTS_UNWRAPPED=unwrapped)
    server.fire("sleep", 3600)
    server.fire("sleep", 3600)
    server.wait_for_statuses({"RUNNING": 2})
    server.stop()
    assert server.log.count("No drain is active in this process: uvicorn has sent no lifespan events") == 1
    assert server.query("SELECT has_lifespan FROM bgtasks_process") == [{"has_lifespan": 0}]
    assert server.count_by_status() == {"RUNNING": 2}


def test_ctrl_c_with_a_task_that_ignores_it(start: StartServer) -> None:
    """uvicorn's loop ends as `asyncio.run` does, which waits for all tasks that asyncio knows: not for this one."""
    server = start("uvicorn", TESTS_DRAIN_TIMEOUT="0")
    server.fire("ignore_cancellation", 3600)
    server.stop(signal.SIGINT, timeout=20)
    assert server.count_by_status() == {"INTERRUPTED": 1}
    assert "Task was destroyed" not in server.log


def check_orm_after_the_response(server: Server) -> None:
    """200 tasks of an async and a sync view use the ORM; connections stay bounded and none is left idle."""
    highest = 0
    server.fire("use_orm", "{}", 0.3, times=100)
    server.fire("use_orm", "{}", 0.3, times=100, first=100, sync=True)
    while server.client.get("/state").json()["pending"]:  # The connection of a query of ours would be counted.
        highest = max(highest, server.count_connections())
    server.wait_for_statuses({"SUCCESSFUL": 200})
    assert highest <= databases.LANES + JOURNAL
    assert len(server.query("SELECT 1 FROM auth_group")) == 400
    server.wait_until(lambda: server.count_connections() <= JOURNAL, "no connection is left idle", seconds=10)


def check_stop(server: Server) -> None:
    """SIGTERM with tasks running: each row has the final state of its task, and the process ends in time."""
    server.fire("ignore_cancellation", 3600)
    fire_what_a_stop_meets(server)
    server.fire("use_orm_until_drained", "{}", times=20, first=200)
    server.wait_until(lambda: len(server.query(BEFORE_THE_STOP)) == 20, "each has a row of its own")
    began = time.monotonic()

    status = server.stop()

    seconds = time.monotonic() - began
    assert status == EXIT_STATUS.get(server.name, 0)
    assert 5.9 <= seconds < 20  # The timeout and the grace, with room for a slow machine.
    check_rows_after_stop(server, finished=20, left=1)
    assert server.count_by_status() == {"SUCCESSFUL": 220, "INTERRUPTED": 8, "READY": 2}


def fire_what_a_stop_meets(server: Server) -> None:
    server.fire("sleep", 3600, times=3)
    server.fire("sleep", 3600, times=2, sync=True)
    server.fire("sleep_and_rerun", 3600, times=2)
    server.fire("clean_up_when_cancelled", str(server.folder / "marks"))
    server.client.get("/coroutine", params={"seconds": 3600})


def check_rows_after_stop(server: Server, finished: int, left: int) -> None:
    """Each row has the final state of its task; no process and no connection is left."""
    assert "RUNNING" not in server.count_by_status()
    interrupted = server.query("SELECT id FROM bgtasks_backgroundtask WHERE status = 'INTERRUPTED'")
    assert len(interrupted) == 7 + left
    ready = server.query("SELECT attempt, process, name FROM bgtasks_backgroundtask WHERE status = 'READY'")
    assert ready == [{"attempt": 0, "process": None, "name": "tests.app.tasks.sleep_and_rerun"}] * 2
    assert (server.folder / "marks").read_text() == "cleaned up\n"
    [drain] = server.query("SELECT * FROM bgtasks_drain")
    numbers = [drain[name] for name in ("running_at_start", "finished_count", "cancelled_count", "left_count")]
    assert numbers == [finished + 9 + left, finished, 9, left]
    assert json.loads(drain["names"])["tests.app.tasks.sleep"] == 5
    if databases.KIND != "sqlite":
        server.wait_until(lambda: server.count_connections() == 0, "no connection is left")
    assert "Task was destroyed" not in server.log
    assert "never awaited" not in server.log
