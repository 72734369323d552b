"""The drainer: brings the tasks of a process to an end, within a deadline."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from ..log import log
from ..process.drain_report import MAX_COURSE, DrainReport
from ..process.record import Record
from ..status import Status
from .attempt import ASKED_FOR

if TYPE_CHECKING:
    from .runner import Runner  # For the type only: the runner imports this module.

READY = Status.READY
RUNNING = Status.RUNNING


NOT_RECORDED = (Status.INTERRUPTED, "not recorded before the drain ended")


class Drainer:
    """
    Carries out the one drain of a runner, on the loop that asked for it.

    A loop that ends cancels all its tasks, and waits for them: the drain among them. To the drain that says that
    nobody waits for running tasks any more; it still cuts them short and writes what became of them.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.is_cutting_short = False  # From then on what draining tasks fire is not started any more.
        self.interrupted: Counter[str] = Counter()  # The names of attempts that were cut short, by whomever.
        self._is_hurried = False
        self._step = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._note: Callable[[], None] = lambda: None

    async def drain(self, asked_by: str, deadline: float) -> DrainReport:
        began = time.monotonic()
        runner = self._runner
        ended_before = runner.ended_count
        report = DrainReport(asked_by, time.time(), running_at_start=runner.count_running())
        settings = runner.settings
        ending = settings.ending_seconds
        self._note = partial(self._note_course, report, began, max(deadline - began, 0.0) / MAX_COURSE)
        try:
            await runner.journal.begin_drain()
        except asyncio.CancelledError:
            self.hurry()
        await self._wait_until(lambda: self._is_hurried or not self._find_unfinished(), deadline - ending)
        report.finished_count = runner.ended_count - ended_before
        report.course.append((time.monotonic() - began, len(self._find_unfinished())))
        if self._is_hurried:
            deadline = min(deadline, time.monotonic() + ending)
        await self._cut_short(report, deadline - settings.flush_timeout)
        report.seconds = time.monotonic() - began
        report.course.append((report.seconds, report.left_count))
        report.is_written = await self._write(report, deadline)
        with contextlib.suppress(asyncio.CancelledError):
            await runner.on_drained()
        self._log_drain(report)
        return report

    def hurry(self) -> None:
        """Wait no longer for running tasks: whoever asked for the drain does not wait either."""
        self._is_hurried = True
        self._step.set()

    async def _wait_until(self, is_over: Callable[[], bool], deadline: float) -> None:
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

    def _note_course(self, report: DrainReport, began: float, step: float) -> None:
        seconds = time.monotonic() - began
        if not report.course or seconds - report.course[-1][0] >= step:
            report.course.append((seconds, len(self._find_unfinished())))

    async def _write(self, report: DrainReport, deadline: float) -> bool:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                return await self._runner.journal.conclude_drain(report, max(deadline - time.monotonic(), 0.1))

    def _find_unfinished(self) -> list[Record]:
        """Return what the drain waits for: all that is live, but for what another process can start."""
        live = list(self._runner.registry.live.values())
        return [record for record in live if record.status is RUNNING or record.task is None]

    async def _cut_short(self, report: DrainReport, deadline: float) -> None:
        self.is_cutting_short = True
        report.names += self.interrupted  # The server may have cancelled them together with this drain.
        before = self.interrupted.total()
        cut_short = self._find_unfinished()
        if cut_short or report.names:
            report.cut_short_after = report.course[-1][0]
        for record in cut_short:
            report.names[record.name] += 1
            if record.status is READY:
                if record.take():
                    self._runner.conclude(record, Status.INTERRUPTED, "not started before the drain ended")
            elif record.is_recorded_first:  # The database has not taken it, so it has not begun.
                outcome = ASKED_FOR if record.cancel_reason == "asked" else NOT_RECORDED
                self._runner.conclude(record, *outcome)
            elif self._is_hurried and record.asyncio_task is not None and record.asyncio_task.cancelling():
                record.cancel_reason = record.cancel_reason or "drain"  # A second time would disturb its cleaning up.
            elif not _is_for_rescue(record):
                self._runner.interrupt(record, "drain")
        await self._wait_until(lambda: all(_is_for_rescue(left) for left in self._find_unfinished()), deadline)
        left = self._find_unfinished()
        for record in left:  # They ignore the cancellation, or are threads that cannot be cancelled.
            if not _is_for_rescue(record):
                self._runner.conclude(record, Status.INTERRUPTED, "still running when the drain ended")
            self._leave_to_itself(record.asyncio_task)
        report.left_count = len(left)
        report.cancelled_count = before + max(len(cut_short) - len(left), 0)

    def _leave_to_itself(self, task: asyncio.Task[Any] | None) -> None:
        """
        Let the loop end without a task that ignores its cancellation: waiting for it would keep the process for ever.

        Its verdict is given, so nothing that it does counts any more. The loop forgets it by what asyncio has for
        foreign kinds of tasks: https://docs.python.org/3/library/asyncio-extending.html#task-lifetime-support
        """
        if task is not None and task.get_loop() is self._loop:
            asyncio._unregister_task(task)
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # As `asyncio.gather` does.

    def look_again(self) -> None:
        """A task has ended, in whichever thread: it may have been the last."""
        with contextlib.suppress(RuntimeError):  # The loop may be closed already.
            self._loop.call_soon_threadsafe(self._step.set)

    def _log_drain(self, report: DrainReport) -> None:
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
    Tell whether its row stays RUNNING: a thread cannot be cancelled, and may go on until this process is gone.

    One that may run again must not do so before; the rescue sees to that.
    """
    return record.thread_id is not None and record.on_lost == "rerun"
