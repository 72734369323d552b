"""The drain as the journal writes it: its beginning, its report, and the end of the process."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from django.utils import timezone

from ..models import Drain, Process
from ..models.moments import to_datetime
from ..process.drain_report import DrainReport
from ..process.state import ProcessState
from .statements import Statements

LONGEST_PAUSE = 2.0  # Seconds that the start of a drain waits for a database that may be away.


class Conclusion:
    """
    The end of a drain, to be written by the journal's thread while the event loop waits for it.

    Attributes:
        deadline: the moment by which all must be committed, on the monotonic clock.
    """

    def __init__(self, report: DrainReport, deadline: float) -> None:
        self.report = report
        self.deadline = deadline
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[bool] = self._loop.create_future()

    @property
    def is_late(self) -> bool:
        return time.monotonic() >= self.deadline

    def settle(self, is_written: bool) -> None:
        """Answer whether all was committed in time. From the journal's thread."""
        with contextlib.suppress(RuntimeError):  # The loop may be closed by now.
            self._loop.call_soon_threadsafe(self._answer.set_result, is_written)

    async def wait(self) -> bool:
        """
        Return whether all was committed in time.

        A wait that is cancelled does not stop the writing, and may be repeated.
        """
        try:
            async with asyncio.timeout(self.deadline - time.monotonic()):
                return await asyncio.shield(self._answer)
        except TimeoutError:
            return False


async def run_and_wait(step: Callable[[], None], submit: Callable[[Callable[[], None]], None]) -> None:
    """
    Run a step on the journal's thread, and wait until it begins, for LONGEST_PAUSE at most.

    The thread has then done its earlier work, such as a claim.
    """
    loop = asyncio.get_running_loop()
    has_begun = asyncio.Event()

    def begin() -> None:
        with contextlib.suppress(RuntimeError):  # The loop may be closed by now.
            loop.call_soon_threadsafe(has_begun.set)
        step()

    submit(begin)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LONGEST_PAUSE):
            await has_begun.wait()


def write_end(statements: Statements, state: ProcessState, report: DrainReport) -> None:
    """Write the row of the drain and the end of the process, in one transaction."""
    now = timezone.now()
    with statements.transaction():
        Drain.objects.using(statements.alias).create(
            process=state.id,
            asked_by=report.asked_by,
            started_at=to_datetime(report.started_at),
            seconds=report.seconds,
            running_at_start=report.running_at_start,
            finished_count=report.finished_count,
            cancelled_count=report.cancelled_count,
            left_count=report.left_count,
            names=dict(report.names),
            cut_short_after=report.cut_short_after,
            course=[[round(seconds, 3), left] for seconds, left in report.course],
        )
        Process.objects.using(statements.alias).filter(pk=state.id).update(
            state=Process.State.STOPPED, stopped_at=now, beat_at=now, running=report.left_count
        )
