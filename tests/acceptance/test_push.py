"""Processes await each other's tasks, over Redis or without it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.servers import ROOT, Server, find_port

pytestmark = pytest.mark.slow  # Each starts servers.

NEVER = "60"  # Seconds between two polls: news that arrive earlier were pushed.
SOON = 5  # Seconds, far fewer. Most of them are for a loaded machine.
ENDED = (0, -signal.SIGTERM)  # Newer versions of uvicorn end by the signal that they received.
LAYERS = ("channels_redis.core.RedisChannelLayer", "channels_redis.pubsub.RedisPubSubChannelLayer")

Start = Callable[..., Server]


@pytest.fixture
def start(start_with_layer: Start) -> Start:
    return start_with_layer


def wait_in(server: Server, id_: str, timeout: float = 25) -> Future[dict[str, Any]]:
    """Have a server await a task."""
    pool = ThreadPoolExecutor(1)
    try:
        return pool.submit(lambda: server.client.get(f"/await/{id_}", params={"timeout": timeout}).json())
    finally:
        pool.shutdown(wait=False)


def count_asked_about(server: Server) -> int:
    return int(server.client.get("/state").json()["asked_about"])


def wait_until_asked(server: Server) -> None:
    server.wait_until(lambda: count_asked_about(server) == 1, "it was asked about the task")


@pytest.mark.parametrize("layer", LAYERS)
def test_who_waits_in_another_process_hears_at_once(redis: str, start: Start, tmp_path: Path, layer: str) -> None:
    first, second = (start(redis, TESTS_POLL_INTERVAL=NEVER, TESTS_LAYER=layer) for _ in range(2))
    gate = tmp_path / "gate"
    [id_] = first.fire("wait_for_file", str(gate), recorded=1)
    waiting = wait_in(second, id_)
    wait_until_asked(first)

    began = time.monotonic()
    gate.touch()
    answer = waiting.result(30)

    assert answer["result"] is None
    assert time.monotonic() - began < SOON
    assert count_asked_about(first) == 0
    for server in (first, second):
        assert server.stop() in ENDED
        assert "channel layer" not in server.log
        assert "never" not in server.log  # As in "was never awaited" and "was never retrieved".
        assert "destroyed" not in server.log


def test_who_waits_hears_of_a_drain(redis: str, start: Start) -> None:
    """SIGTERM while it is awaited: the process pushes the verdict before it ends."""
    first = start(redis, TESTS_POLL_INTERVAL=NEVER, TESTS_DRAIN_TIMEOUT="0.2")
    second = start(redis, TESTS_POLL_INTERVAL=NEVER)
    [id_] = first.fire("sleep", 3600, recorded=1)
    waiting = wait_in(second, id_)
    wait_until_asked(first)

    began = time.monotonic()
    assert first.stop() in ENDED

    assert waiting.result(30)["error"] == "TaskInterrupted"
    assert time.monotonic() - began < SOON


def test_a_process_that_waits_may_end(redis: str, start: Start, tmp_path: Path) -> None:
    first, second = (start(redis, TESTS_POLL_INTERVAL=NEVER) for _ in range(2))
    gate = tmp_path / "gate"
    [id_] = first.fire("wait_for_file", str(gate), recorded=1)
    waiting = wait_in(second, id_)
    wait_until_asked(first)

    second.kill()
    gate.touch()

    first.wait_for_statuses({"SUCCESSFUL": 1})
    first.wait_until(lambda: count_asked_about(first) == 0, "it has answered nobody")
    assert waiting.exception(30) is not None
    assert first.stop() in ENDED


def test_who_waits_for_a_killed_process_hears_by_polling(redis: str, start: Start) -> None:
    first = start(redis)
    [id_] = first.fire("sleep", 3600, recorded=1)
    second = start(redis, TESTS_DEAD_AFTER="3")
    waiting = wait_in(second, id_)
    wait_until_asked(first)

    first.process.send_signal(signal.SIGKILL)

    assert waiting.result(30)["error"] == "TaskLost"


def test_polling_goes_on_where_redis_does_not(start: Start, tmp_path: Path) -> None:
    """No server listens at the address: bgtasks works as without a layer, and logs that once."""
    pytest.importorskip("channels_redis", reason="channels-redis is not installed: `make test` installs it")
    first, second = (start(f"redis://127.0.0.1:{find_port()}/0", TESTS_POLL_INTERVAL="0.5") for _ in range(2))
    gate = tmp_path / "gate"
    [id_] = first.fire("wait_for_file", str(gate), recorded=1)
    waiting = wait_in(second, id_)
    second.wait_until(lambda: "channel layer fails" in second.log, "it has noticed")

    began = time.monotonic()
    gate.touch()

    assert waiting.result(30)["result"] is None
    assert time.monotonic() - began < SOON
    for server in (first, second):
        began = time.monotonic()
        assert server.stop() in ENDED
        assert time.monotonic() - began < SOON
        assert server.log.count("channel layer fails") == 1


def test_a_script_without_a_loop_waits_by_polling(redis: str, start: Start, tmp_path: Path) -> None:
    server = start(redis)
    gate = tmp_path / "gate"
    [id_] = server.fire("wait_for_file", str(gate), recorded=1)
    code = f"import bgtasks; print('ended with', bgtasks.get({id_!r}).result(timeout=20))"
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "TESTS_DB_DIR": str(tmp_path),
        "TESTS_DB_NAME": str(server.database),
        "TESTS_REDIS": redis,
        "TESTS_REDIS_PREFIX": "bgtasks-tests",
    }
    script = subprocess.Popen(
        [sys.executable, "-X", "dev", "manage.py", "shell", "-c", code],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    server.wait_until(lambda: len(server.query("SELECT * FROM bgtasks_process")) == 2, "the script has begun")

    gate.touch()
    out, err = script.communicate(timeout=30)

    assert (script.returncode, err) == (0, "")
    assert "ended with None" in out
