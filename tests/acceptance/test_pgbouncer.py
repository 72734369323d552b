"""PgBouncer in transaction mode: each transaction may get another session, and bgtasks keeps no state in one."""

from __future__ import annotations

import signal
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytest_django import DjangoDbBlocker

from tests import databases
from tests.acceptance.test_commands import Manage
from tests.pgbouncer import POOL_SIZE, PROGRAM, PgBouncer, start_pgbouncer
from tests.servers import Server

StartServer = Callable[..., Server]

pytestmark = [
    pytest.mark.databases("postgresql"),
    pytest.mark.skipif(PROGRAM is None, reason="PgBouncer is not installed: apt-get install pgbouncer"),
]


@pytest.fixture
def pgbouncer() -> Iterator[PgBouncer]:
    with start_pgbouncer() as found:
        yield found


def test_two_servers_behind_one_small_pool(
    start_server: StartServer,
    pgbouncer: PgBouncer,
    database: str,
    tmp_path: Path,
    django_db_blocker: DjangoDbBlocker,
) -> None:
    """ORM calls, claims, a cancellation from another process, commands and a drain leave the sessions unchanged."""
    through = {"TESTS_DB_PORT": str(pgbouncer.port)}
    manage = Manage(tmp_path, database, django_db_blocker)
    servers = [start_server(TESTS_MAX_RUNNING="20", TESTS_DRAIN_TIMEOUT="1", **through) for _ in range(2)]
    first, second = servers
    marks = tmp_path / "marks"
    [before] = {tuple(list(session.values())[1:]) for session in pgbouncer.settings_of_sessions(database)}

    # Many more tasks than slots: most wait in the table, and both processes claim them.
    first.fire("use_orm", "{}", 0.02, times=200)
    second.fire("use_orm", "{}", 0.02, times=100, first=200, sync=True)
    first.fire("mark", str(marks), "{}", 0.02, times=200)
    second.fire("succeed", "{}", times=50, recorded=1)
    first.wait_for_statuses({"SUCCESSFUL": 550})

    lines = marks.read_text().split("\n")[:-1]
    assert sorted(lines) == sorted([f"{what} {number}" for what in ("start", "end") for number in range(200)])
    assert len(first.query("SELECT 1 FROM auth_group")) == 600
    rows = first.rows()
    assert {row["attempt"] for row in rows} == {1}
    assert len({row["process"] for row in rows}) == 2
    assert databases.count_connections(database) <= POOL_SIZE

    [cancelled] = second.fire("sleep", 3600)
    first.fire("sleep", 3600, times=3)
    first.fire("sleep_and_rerun", 3600, times=2)
    first.wait_for_statuses({"SUCCESSFUL": 550, "RUNNING": 6})
    code = f"""
        from uuid import UUID
        from bgtasks import transitions
        print(transitions.cancel("default", UUID("{cancelled}"), "a shell", "by hand"))
    """
    manage.run("shell", "--no-imports", "-c", textwrap.dedent(code), **through)
    first.wait_for_statuses({"SUCCESSFUL": 550, "RUNNING": 5, "CANCELLED": 1})
    stuck = manage.run("stuck_tasks", "--older-than", "0", status=1, **through).stdout
    assert "5 stuck" in stuck
    assert manage.read("prune_tasks", **through)["count"] == 0
    drained = manage.read("drain_tasks", "--timeout", "0", status=1, **through)
    assert drained["running_count"] == 5

    assert [server.stop() for server in servers] == [-signal.SIGTERM] * 2

    assert first.count_by_status() == {"SUCCESSFUL": 550, "CANCELLED": 1, "INTERRUPTED": 3, "READY": 2}
    ready = first.query("SELECT attempt, process FROM bgtasks_backgroundtask WHERE status = 'READY'")
    assert ready == [{"attempt": 0, "process": None}] * 2
    assert {row["state"] for row in first.query("SELECT state FROM bgtasks_process")} <= {"STOPPED"}
    for server in servers:
        assert "Traceback" not in server.log
        assert "does not take records" not in server.log
    sessions = pgbouncer.settings_of_sessions(database)
    assert len({session["backend"] for session in sessions}) == POOL_SIZE
    assert {tuple(list(session.values())[1:]) for session in sessions} == {before}
