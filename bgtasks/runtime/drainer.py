"""The drainer: brings the tasks of a process to an end, within a deadline."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from ..conf import Settings
from ..journal.journal import Journal
from ..log import log
from ..process.drain_report import MAX_COURSE, DrainReport
from ..process.record import Record
from ..process.registry import Registry
from ..status import Status
from .attempt import ASKED_FOR
from .cancelling import Interrupter
from .concluding import Concluder
from .ends import Ends

NOT_RECORDED = (Status.INTERRUPTED, "not recorded before the drain ended")


class Drainer:
    """
    Carries out one drain, on the running loop.

    An event loop that ends cancels all its asyncio tasks and waits for them, the drain among them. A cancelled drain
    waits for running tasks no longer, but it still cuts them short and writes their last states.
    """

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        journal: Journal,
        concluder: Concluder,
        interrupter: Interrupter,
        ends: Ends,
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._journal = journal
        self._concluder = concluder
        self._interrupter = interrupter
        self._ends = ends
        self._is_hurried = False
        self._step = asyncio.Event()  # Set when tasks may have ended.
        self._loop = asyncio.get_running_loop()
        self._note: Callable[[], None] = lambda: None
        ends.watch(self._look_again)

    async def drain(self, asked_by: str, deadline: float) -> DrainReport:
        """
        Wait for the running tasks, cut short the rest, and write all records.

        Args:
            deadline: the moment, on the monotonic clock, at which all of that is done. CANCEL_GRACE and FLUSH_TIMEOUT
                before it, the rest is cut short.
        """
        began = time.monotonic()
        ended_before = self._ends.finished_count
        report = DrainReport(asked_by, time.time(), running_at_start=self._registry.count_running())
        ending = self._settings.ending_seconds
        self._note = partial(self._note_course, report, began, max(deadline - began, 0.0) / MAX_COURSE)
        try:
            await self._journal.begin_drain()
        except asyncio.CancelledError:
            self.hurry()
        await self._wait_until(lambda: self._is_hurried or not self._find_unfinished(), deadline - ending)
        report.finished_count = self._ends.finished_count - ended_before
        report.course.append((time.monotonic() - began, len(self._find_unfinished())))
        if self._is_hurried:
            deadline = min(deadline, time.monotonic() + ending)
        await self._cut_short(report, deadline - self._settings.flush_timeout)
        report.seconds = time.monotonic() - began
        report.course.append((report.seconds, report.left_count))
        report.is_written = await self._write(report, deadline)
        _log_drain(report)
        return report

    def hurry(self) -> None:
        """Wait for running tasks no longer, since the caller of the drain does not wait either."""
        self._is_hurried = True
        self._step.set()

    async def _wait_until(self, is_over: Callable[[], bool], deadline: float) -> None:
        """Wait until `is_over` returns true, checked after each end of a task, or until the deadline."""
        while not is_over():
            self._note()
            self._step.clear()
            if is_over():
                return
            try:
                async with asyncio.timeout_at(self._loop.time() + max(deadline - time.monotonic(), 0)):
                    await self._step.wait()
            except TimeoutError:
                return
            except asyncio.CancelledError:
                self.hurry()

    def _look_again(self) -> None:
        """Wake the drain, from any thread."""
        with contextlib.suppress(RuntimeError):  # The loop may be closed already.
            self._loop.call_soon_threadsafe(self._step.set)

    def _note_course(self, report: DrainReport, began: float, step: float) -> None:
        """Note the number of unfinished tasks, at most once in `step` seconds."""
        seconds = time.monotonic() - began
        if not report.course or seconds - report.course[-1][0] >= step:
            report.course.append((seconds, len(self._find_unfinished())))

    async def _write(self, report: DrainReport, deadline: float) -> bool:
        conclusion = self._journal.conclude_drain(report, max(deadline, time.monotonic() + 0.1))
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                return await conclusion.wait()

    def _find_unfinished(self) -> list[Record]:
        """Return the records that the drain waits for: all live ones except those that another process can start."""
        live = list(self._registry.live.values())
        return [record for record in live if record.status is Status.RUNNING or record.task is None]

    async def _cut_short(self, report: DrainReport, deadline: float) -> None:
        """Cut short the unfinished records, and leave alone those that do not end before the deadline."""
        self._ends.begin_cutting_short()
        report.names += self._ends.interrupted  # Those that the server has cancelled, together with this drain.
        interrupted_count = self._ends.interrupted.total()
        cut_short = self._find_unfinished()
        if cut_short or report.names:
            report.cut_short_after = report.course[-1][0]
        for record in cut_short:
            report.names[record.name] += 1
            self._cut_short_one(record)
        await self._wait_until(lambda: all(_is_for_rescue(left) for left in self._find_unfinished()), deadline)
        left = self._find_unfinished()
        for record in left:  # They ignore the cancellation, or run in threads, which cannot be cancelled.
            if not _is_for_rescue(record):
                self._concluder.conclude(record, Status.INTERRUPTED, "still running when the drain ended")
            self._leave_to_itself(record.asyncio_task)
        report.left_count = len(left)
        report.cancelled_count = interrupted_count + max(len(cut_short) - len(left), 0)

    def _cut_short_one(self, record: Record) -> None:
        if record.status is Status.READY:
            if record.take():
                self._concluder.conclude(record, Status.INTERRUPTED, "not started before the drain ended")
        elif record.is_recorded_first:  # It is not committed, so it has not begun.
            self._concluder.conclude(record, *(ASKED_FOR if record.cancel_reason == "asked" else NOT_RECORDED))
        elif self._is_hurried and record.asyncio_task is not None and record.asyncio_task.cancelling():
            record.cancel_reason = record.cancel_reason or "drain"  # A second cancellation would disturb its clean-up.
        elif not _is_for_rescue(record):
            self._interrupter.interrupt(record, "drain")

    def _leave_to_itself(self, task: asyncio.Task[Any] | None) -> None:
        """
        Let the loop end without a task that ignores its cancellation: a wait for it might never end.

        Its verdict is given, so its outcome does not count. The loop forgets it by a function that asyncio has for
        foreign kinds of tasks: https://docs.python.org/3/library/asyncio-extending.html#task-lifetime-support
        """
        if task is not None and task.get_loop() is self._loop:
            asyncio._unregister_task(task)
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # As `asyncio.gather` does.


def _log_drain(report: DrainReport) -> None:
    names = ", ".join(f"{name} ×{count}" for name, count in report.names.most_common(10))
    rest = f" Not finished: {names}." if names else ""
    written = "" if report.is_written else " Not everything could be written in time."
    log(
        logging.INFO if report.is_written else logging.ERROR,
        "Drained in %.1f s: %s running at the start, %s finished in time, %s cut short, %s left running.%s%s",
        report.seconds,
        report.running_at_start,
        report.finished_count,
        report.cancelled_count,
        report.left_count,
        rest,
        written,
        extra={"drain_seconds": report.seconds, "drain_left": report.left_count},
    )


def _is_for_rescue(record: Record) -> bool:
    """
    Return whether the verdict of a record is left to the rescue, that is, whether its row stays RUNNING.

    A thread cannot be cancelled, and may go on until the process ends. If its task may run again, it must not do so
    before that, and the rescue comes after the end of the process.
    """
    return record.thread_id is not None and record.on_lost == "rerun"
