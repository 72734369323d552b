"""The executor of captured tasks: it carries them out where the test calls it, and writes no rows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from asgiref.sync import AsyncToSync, SyncToAsync, sync_to_async

from ..process.record import NO_CONTEXT, Record
from ..process.registry import Registry
from ..runtime import attempt
from ..runtime.cancelling import Interrupter
from ..status import Status


class Surroundings:
    """
    The thread in which asgiref makes the thread-sensitive calls of the code that creates this object.

    A task that enters it makes its ORM calls in the caller's thread, so on the same connection and in the same
    transaction. The thread of the code that fired it may be gone by then, such as that of a request.
    """

    def __init__(self) -> None:
        self._executor = getattr(AsyncToSync.executors, "current", None)
        self._context = SyncToAsync.thread_sensitive_context.get(None)
        self._is_nested = SyncToAsync.deadlock_context.get(False)

    def enter(self) -> None:
        AsyncToSync.executors.current = self._executor
        SyncToAsync.thread_sensitive_context.set(self._context)  # type: ignore[arg-type]  # None as if there were none.
        SyncToAsync.deadlock_context.set(self._is_nested)

    def release(self) -> None:
        pass


class CallersExecutor:
    """
    Carries out attempts as their caller would call the function: on its loop and its connections.

    It implements `attempt.Attempts`.
    """

    is_draining = False

    def __init__(
        self, registry: Registry, interrupter: Interrupter, max_result_bytes: int, surroundings: Surroundings
    ) -> None:
        self.max_result_bytes = max_result_bytes
        self.is_live_here = registry.is_live_here
        self.interrupt = interrupter.interrupt
        self.progress = self  # Progress stays in the record.
        self._registry = registry
        self._surroundings = surroundings

    async def run(self, record: Record) -> None:
        """Carry out one attempt at a record whose token was taken."""
        record.loop = asyncio.get_running_loop()
        record.forget_attempt()
        record.history.append((Status.RUNNING, time.time(), record.attempt + 1, "run by the test"))
        task = attempt.start(self, record)
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait({task})
            raise

    def lease(self, record: Record) -> Surroundings:
        return self._surroundings

    async def call_plain(self, record: Record, function: Callable[..., Any]) -> attempt.Returned:
        """Call a plain `def` function in the caller's thread."""
        in_callers_thread = sync_to_async(attempt.call_in_thread)
        return await in_callers_thread(record, function)

    def end(self, record: Record, outcome: attempt.Outcome) -> None:
        record.asyncio_task = None
        if self.is_live_here(record):  # Else its transaction was rolled back meanwhile.
            conclude(self._registry, record, *outcome)

    def write_soon(self, record: Record) -> None:
        pass

    def write(self, record: Record) -> None:
        pass


def conclude(registry: Registry, record: Record, status: Status, reason: str) -> None:
    """Give a captured record its next status. READY means that it can be run again at once: a test does not wait."""
    record.forget_coroutine()
    record.history.append((status, time.time(), record.attempt, reason))
    if status is Status.READY:
        record.issue_token()
        return
    registry.live.pop(record.number, None)
    record.context = NO_CONTEXT
    record.wake_waiters()
