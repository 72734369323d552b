"""The expiry of waiting callers of `afire`. All have the same time limit, so each loop needs only one timer."""

from __future__ import annotations

import asyncio
from collections import deque


class Expiry:
    """
    Answers False to the callers that have waited for too long, on one event loop.

    A timer for each caller would take 8 µs: asyncio sorts it into a heap by comparisons in Python, and removes it from
    there after the cancellation.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds
        self._waiting: deque[tuple[float, asyncio.Future[bool]]] = deque()  # In the order in which they expire.
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, answer: asyncio.Future[bool]) -> None:
        """Set a future to False after the time limit, unless it has its answer by then."""
        self._waiting.append((self._loop.time() + self._seconds, answer))
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._look)

    def forget_answered(self) -> bool:
        """Forget the callers that have their answers; return whether others wait. If not, this object can go."""
        waiting = self._waiting
        while waiting and waiting[0][1].done():
            waiting.popleft()
        if not waiting and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return bool(waiting)

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._waiting and (self._waiting[0][0] <= now or self._waiting[0][1].done()):
            settle(self._waiting.popleft()[1], False)
        if self._waiting:
            self._timer = self._loop.call_at(self._waiting[0][0], self._look)


def settle(answer: asyncio.Future[bool], is_committed: bool) -> None:
    if not answer.done():  # The caller may have given up.
        answer.set_result(is_committed)


def settle_all(answers: list[asyncio.Future[bool]]) -> None:
    for answer in answers:
        settle(answer, True)
