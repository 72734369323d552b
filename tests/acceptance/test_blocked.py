"""A blocked event loop is reported with the line that blocks it. Its process does not count as dead."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.servers import Server
from tests.waiting import stays


@pytest.mark.slow
def test_a_blocked_loop_is_reported_once(start_server: Callable[..., Server]) -> None:
    server = start_server(TESTS_BLOCKED_AFTER="1", TESTS_DEAD_AFTER="3")
    watcher = start_server(TESTS_DEAD_AFTER="3")
    blocked = "SELECT blocked_by, blocked_since FROM bgtasks_process WHERE blocked_since IS NOT NULL"
    with ThreadPoolExecutor(1) as pool:  # The task may block the loop before the answer is sent.
        firing = pool.submit(server.fire, "block", 6, recorded=1)
        server.wait_until(lambda: server.query(blocked), "its row says so")
        [row] = server.query(blocked)
        [blocking] = firing.result()
    assert f"task tests.app.tasks.block ({blocking})" in row["blocked_by"]
    assert "time.sleep(seconds)" in row["blocked_by"]
    server.wait_until(lambda: server.count_by_status() == {"SUCCESSFUL": 1}, "the task has ended")
    server.wait_until(lambda: not server.query(blocked), "its row says that it answers again")
    assert server.log.count("The event loop has not answered for") == 1
    assert server.log.count("time.sleep(seconds)") == 1
    assert server.log.count("The event loop answers again: it was blocked for") == 1
    assert not {row["state"] for row in server.query("SELECT state FROM bgtasks_process")} - {"ALIVE"}
    assert "is dead" not in watcher.log


def test_a_process_that_was_suspended_is_not_blocked(start_server: Callable[..., Server]) -> None:
    server = start_server(TESTS_BLOCKED_AFTER="1")
    server.fire("succeed", recorded=1)
    os.killpg(server.process.pid, signal.SIGSTOP)
    stays(lambda: "has not answered" not in server.log, 3, why="three times BLOCKED_AFTER")
    os.killpg(server.process.pid, signal.SIGCONT)
    server.fire("succeed", recorded=1)
    beat = "SELECT beat FROM bgtasks_process"
    before = server.query(beat)[0]["beat"]
    server.wait_until(lambda: server.query(beat)[0]["beat"] > before + 1, "it beats")
    assert "has not answered" not in server.log
