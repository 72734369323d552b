"""Processes that die or count as dead: servers, signals, and marks in a file outside the database."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import databases
from tests.servers import Server
from tests.waiting import stays

DEAD_AFTER = 3


@pytest.fixture
def start(start_server: Callable[..., Server]) -> Callable[..., Server]:
    def start(**options: Any) -> Server:
        return start_server(**{"TESTS_DEAD_AFTER": str(DEAD_AFTER), **options})

    return start


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    path = tmp_path / "marks.txt"
    path.touch()
    return path


def read_starts(marks: Path) -> Counter[str]:
    """Return how often each task was started, by the name of its mark."""
    return Counter(line.removeprefix("start ") for line in marks.read_text().splitlines() if line.startswith("start"))


def statuses_of(server: Server, ids: list[str]) -> Counter[str]:
    wanted = {id_.replace("-", "") for id_ in ids}
    return Counter(row["status"] for row in server.rows() if str(row["id"]).replace("-", "") in wanted)


def wait_for(server: Server, ids: list[str], expected: dict[str, int]) -> None:
    server.wait_until(lambda: statuses_of(server, ids) == expected, f"{ids} are {expected}", seconds=60)


def test_the_tasks_of_a_killed_process_get_their_verdicts(start: Callable[..., Server], marks: Path) -> None:
    """One process is killed. The other one observes it, starts its waiting tasks and rescues its running ones."""
    first = start(TESTS_MAX_RUNNING="10")
    plain = first.fire("mark", str(marks), "{}", 3600, times=3, recorded=1)
    again = first.fire("mark_and_rerun", str(marks), "again", 3600, times=3, recorded=1)
    [cancelled] = first.fire("mark_and_rerun", str(marks), "cancelled", 3600, recorded=1)
    filling = first.fire("sleep", 3600, times=3, recorded=1)
    objects = first.client.get("/coroutine", params={"seconds": 3600}).json()["ids"]
    waiting = first.fire("mark", str(marks), "{}", 0, times=20, first=100, recorded=1)
    first.wait_until(lambda: statuses_of(first, objects) == {"READY": 1}, "the object waits in the table")
    mark = "'" + cancelled.replace("-", "" if databases.KIND == "sqlite" else "-") + "'"
    first.query(f"UPDATE bgtasks_backgroundtask SET cancel_requested_at = created_at WHERE id = {mark}")
    first.kill()

    second = start()
    wait_for(second, waiting, {"SUCCESSFUL": 20})
    wait_for(second, plain + filling + objects, {"LOST": 7})
    wait_for(second, again, {"SUCCESSFUL": 3})
    wait_for(second, [cancelled], {"CANCELLED": 1})
    starts = read_starts(marks)
    assert [starts[f"{number}"] for number in range(3)] == [1, 1, 1]
    assert [starts[f"{number}"] for number in range(100, 120)] == [1] * 20
    assert starts["again attempt 2"] == 3
    [row] = [row for row in second.query("SELECT state, stopped_at FROM bgtasks_process") if row["state"] == "DEAD"]
    assert row["stopped_at"] is not None
    lost = next(row for row in second.rows() if row["status"] == "LOST")
    assert "died" in str(lost["transitions"])
    assert lost["finished_at"] is not None


@pytest.mark.slow
def test_a_task_that_kills_its_process_cannot_do_so_for_ever(start: Callable[..., Server], marks: Path) -> None:
    """With "rerun" it has three attempts: the fourth process stays alive, and the task is LOST."""
    server = start()
    [id_] = server.fire("die", str(marks), recorded=1)
    for _ in range(3):
        assert server.process.wait(60) == -signal.SIGKILL
        server = start()
    wait_for(server, [id_], {"LOST": 1})
    assert marks.read_text().splitlines() == ["start"] * 3


def test_a_stopped_process_goes_on_under_another_id(start: Callable[..., Server], marks: Path) -> None:
    """SIGSTOP for longer than DEAD_AFTER: the process cancels the tasks that it lost, and none is started twice."""
    first = start()
    plain = first.fire("mark", str(marks), "{}", 3600, times=3, recorded=1)
    again = first.fire("mark_and_rerun", str(marks), "again", 3600, times=3, recorded=1)
    second = start()
    os.killpg(first.process.pid, signal.SIGSTOP)
    try:
        wait_for(second, plain, {"LOST": 3})
    finally:
        os.killpg(first.process.pid, signal.SIGCONT)
    wait_for(second, again, {"SUCCESSFUL": 3})
    first.wait_until(lambda: "goes on as" in first.log, "it has noticed")
    first.wait_until(lambda: first.client.get("/state").json()["pending"] == 0, "what was taken is cancelled")
    late = first.fire("succeed", recorded=1)
    wait_for(first, late, {"SUCCESSFUL": 1})
    assert statuses_of(first, plain) == {"LOST": 3}  # A final state is final.
    assert {read_starts(marks)[f"{number}"] for number in range(3)} == {1}
    states = Counter(row["state"] for row in first.query("SELECT state FROM bgtasks_process"))
    assert states == {"ALIVE": 2, "DEAD": 1}


@pytest.mark.slow
def test_a_long_lock_kills_no_process(start: Callable[..., Server]) -> None:
    """The transaction of another program blocks all writes for three times DEAD_AFTER."""
    servers = [start(), start()]
    ids = [id_ for server in servers for id_ in server.fire("sleep", 3 * DEAD_AFTER + 3, recorded=1)]
    with databases.WriteLock(servers[0].database, ("bgtasks_backgroundtask", "bgtasks_process")):
        why = "a process is declared dead after DEAD_AFTER without a beat"
        stays(lambda: not any("goes on as" in server.log for server in servers), 3 * DEAD_AFTER, why=why)
    wait_for(servers[0], ids, {"SUCCESSFUL": 2})
    assert [row["state"] for row in servers[0].query("SELECT state FROM bgtasks_process")] == ["ALIVE"] * 2
    assert not any("goes on as" in server.log for server in servers)


@pytest.mark.slow
def test_clocks_that_differ_kill_no_process(start: Callable[..., Server]) -> None:
    """The clock of one host is 10 minutes ahead, that of another 10 minutes behind."""
    servers = [start(), start(TESTS_CLOCK_OFFSET="600"), start(TESTS_CLOCK_OFFSET="-600")]
    ids = [id_ for server in servers for id_ in server.fire("sleep", 2 * DEAD_AFTER, recorded=1)]
    wait_for(servers[0], ids, {"SUCCESSFUL": 3})
    assert [row["state"] for row in servers[0].query("SELECT state FROM bgtasks_process")] == ["ALIVE"] * 3


def test_the_next_boot_rescues_what_a_drain_left_in_a_thread(start: Callable[..., Server]) -> None:
    """A thread cannot be cancelled. A task that may rerun is left to the rescue, which does not count the attempt."""
    first = start(TESTS_DRAIN_TIMEOUT="0.2")
    [thread] = first.fire("sleep_in_thread_and_rerun", 30, recorded=1)
    first.stop()
    assert statuses_of(first, [thread]) == {"RUNNING": 1}
    second = start(TESTS_MAX_RUNNING="1", TESTS_DRAIN_TIMEOUT="0.2")
    second.wait_until(lambda: len(second.rows()[0]["transitions"]) and "stopped" in str(second.rows()), "it is rescued")
    second.wait_until(lambda: second.rows()[0]["status"] == "RUNNING", "it runs again")
    assert second.rows()[0]["attempt"] == 1
