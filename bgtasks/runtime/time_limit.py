"""The time limits of an attempt: the soft one warns it, the hard one cancels it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from ..log import log
from ..process.record import Record
from .await_chain import Place, find_place


class TimeLimit:
    """Watches the time of one attempt. Made in the attempt's own context and on its loop."""

    def __init__(self, interrupt: Callable[[Record, str], None], record: Record) -> None:
        """
        Args:
            interrupt: cancels an attempt, for a reason.
        """
        assert record.task is not None  # Only task functions have options.
        self._interrupt = interrupt
        self._record = record
        self._options = record.task.options
        loop = asyncio.get_running_loop()
        self._timers: list[asyncio.TimerHandle] = []
        if self._options.soft_timeout is not None:
            self._timers.append(loop.call_later(self._options.soft_timeout, self._warn))
        if self._options.timeout is not None:
            record.deadline = time.time() + self._options.timeout
            self._timers.append(loop.call_later(self._options.timeout, self._end))

    def cancel(self) -> None:
        for timer in self._timers:
            timer.cancel()

    def _warn(self) -> None:
        self._record.is_past_soft_timeout = True
        hook = self._options.on_soft_timeout
        if hook is None:
            return
        try:
            hook()
        except BaseException as error:  # noqa: BLE001, RUF100  # Uncaught, a SystemExit would end the server.
            message = "on_soft_timeout of task %s (%s) failed."
            log(logging.ERROR, message, self._record.name, self._record.id, exc_info=error, hide=self._record.hide)

    def _end(self) -> None:
        record = self._record
        if record.cancel_reason is not None or record.asyncio_task is None:
            return  # It is being cancelled already, or has ended.
        try:
            place = find_place(record.asyncio_task.get_coro())
        except Exception:  # noqa: BLE001, RUF100  # The attributes of foreign awaitables may be code that raises.
            place = None
        record.timed_out_at = format_place(place)
        self._interrupt(record, "timeout")


def format_place(place: Place | None) -> str:
    return f"{place.function} ({place.file}:{place.line})" if place is not None else ""


def make_error(record: Record) -> TimeoutError:
    """Return the TimeoutError of an expired attempt."""
    assert record.task is not None  # As above.
    waited = f"; it was waiting in {record.timed_out_at}" if record.timed_out_at else ""
    return TimeoutError(f"it took longer than its timeout of {record.task.options.timeout:g} s{waited}")
