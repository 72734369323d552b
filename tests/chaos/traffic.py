"""The traffic: threads that send requests to live servers, and record the answer about each task."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections.abc import Callable
from random import Random
from typing import Any

from .evidence import Fired
from .fleet import Fleet, Server

THREADS = 8
PATIENCE = 4  # Seconds until a request gives up.
PAUSE = 0.18  # Seconds between two requests of a thread, on average.
MOST_TASKS = 5  # Of a request.
CANCELLED = 0.05  # The part of the acknowledged tasks that are cancelled.

MODES = ("afire", "afire", "afire", "fire", "fire", "object", "commit", "rollback")
NAMES = (
    "work", "work", "work_again", "work_again", "work_in_thread", "work_in_thread_again", "fail",
    "work_at_last", "work_with_key", "work_later", "work_in_turn", "work_by_rate",
)  # fmt: skip


class Traffic:
    """Fires tasks until the end of its `with` block."""

    def __init__(self, fleet: Fleet, random: Random) -> None:
        self.fired: list[Fired] = []
        self.cancelled: set[str] = set()
        self._fleet = fleet
        self._numbers = itertools.count(1)
        self._may_send = threading.Event()
        self._is_over = False
        self._idle = threading.Semaphore(0)
        self._threads = [
            threading.Thread(target=self._send, args=(Random(random.random()),), daemon=True) for _ in range(THREADS)
        ]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._is_over = True
        self._may_send.set()
        for thread in self._threads:
            thread.join(2 * PATIENCE)

    def go(self) -> None:
        self._may_send.set()

    def pause(self) -> None:
        """Send no more requests; return when each was answered or given up."""
        self._may_send.clear()
        for _ in self._threads:
            self._idle.acquire(timeout=3 * PATIENCE)

    def _send(self, random: Random) -> None:
        while not self._is_over:
            if not self._may_send.is_set():
                self._idle.release()
                self._may_send.wait()
                continue
            time.sleep(random.uniform(0, 2 * PAUSE))
            if servers := self._fleet.alive():
                self._fire_some(random, random.choice(servers))

    def _fire_some(self, random: Random, server: Server) -> None:
        mode = random.choice(MODES)
        tasks = []
        for _ in range(random.randint(1, MOST_TASKS)):
            name = "work_as_object" if mode == "object" else random.choice(NAMES)
            tasks.append((name, min(random.expovariate(4), 2.0)))
        fired = self.fire(server, mode, tasks)
        for one in fired:
            if one.id and one.outcome == "acknowledged" and random.random() < CANCELLED:
                self.cancelled.add(one.id)
                ask(random.choice(self._fleet.alive() or [server]), f"/cancel/{one.id}")

    def fire(self, server: Server, mode: str, tasks: list[tuple[str, float]]) -> list[Fired]:
        """Have a server fire tasks of (name, seconds)."""
        items = [(name, f"t{next(self._numbers)}", seconds) for name, seconds in tasks]
        began = time.time()
        is_transaction = mode in ("commit", "rollback")
        answer = ask(server, f"/transaction/{mode}" if is_transaction else f"/fire/{mode}", items)
        answers: dict[str, list[Any]] = answer if isinstance(answer, dict) else {}
        fired = []
        for name, tag, _ in items:
            outcome, id_ = answers.get(tag, ("unknown", None))
            fired.append(Fired(tag, name, mode, outcome, id_, server.pid, began))
        self.fired += fired
        return fired


def ask(server: Server, path: str, body: Any = None, timeout: float = PATIENCE) -> Any:
    """Send a request; return the JSON of the answer, or None if there was none."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=timeout)
    try:
        connection.request("POST", path, json.dumps(body or []), {"Connection": "close"})
        answer = connection.getresponse()
        text = answer.read()
        return json.loads(text) if answer.status == 200 else None
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for the condition; return whether it held within the time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True
