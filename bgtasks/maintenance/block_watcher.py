"""The block watcher: notices an event loop that does not answer, and shows the code that blocks it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from typing import Any

from django.db import router

from ..conf import Settings
from ..failure import storable
from ..journal.statements import bounded_transaction, to_datetime
from ..log import log
from ..models import BackgroundTask, Process
from ..process.registry import Registry
from ..process.state import ProcessState
from ..runtime.loops import Loops

MAX_STACK = 10_000  # Characters.


@dataclass(eq=False)
class Question:
    """A request to an event loop for a sign of life. The loop's own thread answers it."""

    loop: asyncio.AbstractEventLoop
    asked_at: float  # On the monotonic clock, as `answered_at`.
    answered_at: float | None = None
    thread_id: int | None = None  # The thread that answered.

    def answer(self) -> None:
        self.thread_id = threading.get_ident()
        self.answered_at = time.monotonic()


@dataclass(eq=False)
class Watch:
    """The watch over one loop."""

    question: Question  # The last one.
    thread_id: int | None = None  # The loop's thread, once it has answered a question.
    blocked_since: float | None = None  # Seconds since the epoch. None: the loop is not blocked.


class BlockWatcher:
    """
    Asks each event loop for a sign of life. A loop that does not answer within BLOCKED_AFTER is blocked; its process
    is alive all the same.

    A blocked loop is logged twice: when it is noticed, with the stack of the blocking code, and when it answers again.
    """

    def __init__(self, settings: Settings, state: ProcessState, registry: Registry, loops: Loops) -> None:
        self._state = state
        self._registry = registry
        self._loops = loops
        self._patience = settings.blocked_after
        self._next = 0.0
        self._watches: dict[asyncio.AbstractEventLoop, Watch] = {}
        self._process_id = state.id

    def seconds_until_due(self, now: float) -> float:
        return max(self._next - now, 0.0)

    def run_once(self, now: float) -> None:
        is_late = now - self._next > self._patience / 2 and self._next > 0
        self._next = now + self._patience / 2
        running = {loop for loop in (self._loops.home, self._loops.bridge) if loop is not None and loop.is_running()}
        self._watches = {loop: watch for loop, watch in self._watches.items() if loop in running}
        for loop in running:
            watch = self._watches.get(loop)
            if watch is None:
                self._watches[loop] = Watch(self._ask(loop, now))
            else:
                self._check(watch, now, is_late)
        if self._process_id != self._state.id:
            self._record_under_new_id()

    def _check(self, watch: Watch, now: float, is_late: bool) -> None:
        """
        Check a loop that has been asked.

        Args:
            is_late: whether this turn of the service came late.
        """
        question = watch.question
        if question.answered_at is not None:
            self._end(watch, question.answered_at)
            watch.thread_id = question.thread_id
            watch.question = self._ask(question.loop, now)
        elif watch.blocked_since is None and is_late:
            # This thread did not run either: the whole process stood still, or the database did.
            watch.question = self._ask(question.loop, now)
        elif watch.blocked_since is None and now - question.asked_at >= self._patience:
            self._begin(watch, now)

    def _record_under_new_id(self) -> None:
        """Record the loops that are blocked now in the new row of this process."""
        self._process_id = self._state.id
        for watch in self._watches.values():
            if watch.blocked_since is not None:
                self._record(watch.blocked_since, "")

    @staticmethod
    def _ask(loop: asyncio.AbstractEventLoop, now: float) -> Question:
        question = Question(loop, now)
        with contextlib.suppress(RuntimeError):  # The loop may be closed by now.
            loop.call_soon_threadsafe(question.answer)
        return question

    def _begin(self, watch: Watch, now: float) -> None:
        """Log and record that a loop is blocked."""
        seconds = now - watch.question.asked_at
        watch.blocked_since = time.time() - seconds
        task = self._find_task(watch.question.loop)
        stack = self._find_stack(watch)
        blocker = f"task {task.name} ({task.id})" if task is not None else "no task of bgtasks"
        message = "The event loop has not answered for %.1f s. It is running %s:\n%s"
        log(logging.WARNING, message, seconds, blocker, stack or "(its stack is not known)")
        self._record(watch.blocked_since, f"{blocker}\n{stack}")

    def _end(self, watch: Watch, at: float) -> None:
        """Log and record that a loop has answered, at a moment of the monotonic clock, if it was blocked."""
        if watch.blocked_since is None:
            return
        watch.blocked_since = None
        log(logging.WARNING, "The event loop answers again: it was blocked for %.1f s.", at - watch.question.asked_at)
        if not any(other.blocked_since is not None for other in self._watches.values()):
            self._record(None, "")

    def _find_task(self, loop: asyncio.AbstractEventLoop) -> Any:
        """Return the record of the task that is running on a loop right now."""
        current = asyncio.current_task(loop)
        records = list(self._registry.live.values())
        return next((record for record in records if current is not None and record.asyncio_task is current), None)

    def _find_stack(self, watch: Watch) -> str:
        thread_id = watch.thread_id or getattr(watch.question.loop, "_thread_id", None)
        frame = sys._current_frames().get(thread_id) if thread_id is not None else None
        if frame is None:
            return ""
        return storable("".join(traceback.format_stack(frame)))[-MAX_STACK:]

    def _record(self, since: float | None, stack: str) -> None:
        using = router.db_for_write(BackgroundTask)
        with bounded_transaction(using):
            rows = Process.objects.using(using).filter(pk=self._process_id)
            rows.update(blocked_since=to_datetime(since), blocked_by=stack)
