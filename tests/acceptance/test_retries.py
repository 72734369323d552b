"""A task that waits for its next attempt, or for its moment, outlives the process that fired it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.servers import Server

pytestmark = pytest.mark.slow  # Each starts servers.

AFTER = 6  # Seconds, in which the first process is killed.


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    path = tmp_path / "marks.txt"
    path.touch()
    return path


def row_of(server: Server, id_: str) -> dict[str, Any]:
    [row] = [row for row in server.rows() if str(row["id"]).replace("-", "") == id_.replace("-", "")]
    return row


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "drained"])
def test_another_process_makes_the_next_attempt(start_server: Callable[..., Server], marks: Path, how: int) -> None:
    first = start_server()
    ids = first.fire("mark_and_fail", str(marks), "{}", 1, AFTER, times=5, recorded=1)
    first.wait_until(lambda: all(row["status"] == "READY" and row["attempt"] == 1 for row in first.rows()), "all wait")
    assert {row["process"] for row in first.rows()} == {None}
    pid = first.process.pid
    if how == signal.SIGKILL:
        first.kill()
    else:
        first.stop()

    second = start_server()
    second.wait_for_statuses({"SUCCESSFUL": 5})
    started = sorted(line.split() for line in marks.read_text().splitlines())
    assert [(line[1], line[3]) for line in started] == [(f"{n}", attempt) for n in range(5) for attempt in ("1", "2")]
    assert all((int(line[5]) == pid) is (line[3] == "1") for line in started)
    for id_ in ids:
        row = row_of(second, id_)
        assert row["attempt"] == 2
        assert "ValueError: failure 1" in str(row["transitions"])
        assert "died" not in str(row["transitions"])


def test_a_second_process_makes_the_attempts_of_one_that_lives(
    start_server: Callable[..., Server], marks: Path
) -> None:
    """Each attempt is made once, by the first process that claims it."""
    servers = [start_server(), start_server()]
    for server in servers:
        server.fire("mark_and_fail", str(marks), "{}", 3, 0.2, times=40, first=100 * servers.index(server))

    servers[0].wait_for_statuses({"SUCCESSFUL": 80})
    lines = [line.rpartition(" in ")[0] for line in marks.read_text().splitlines()]
    assert len(lines) == len(set(lines)) == 80 * 4


def test_what_was_fired_for_later_is_started_by_another_process(
    start_server: Callable[..., Server], marks: Path
) -> None:
    first = start_server()
    first.fire("mark_later", str(marks), "{}", times=3, recorded=1)
    first.fire("mark_later", str(marks), "{}", times=2, first=3, sync=True)
    first.wait_for_statuses({"READY": 5})
    pid = first.process.pid
    first.kill()

    second = start_server()
    second.wait_for_statuses({"SUCCESSFUL": 5})
    lines = sorted(line.split() for line in marks.read_text().splitlines())
    assert [line[1] for line in lines] == ["0", "1", "2", "3", "4"]
    assert pid not in {int(line[3]) for line in lines}
