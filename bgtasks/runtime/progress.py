"""Progress and checkpoints of running tasks, on their way to the journal."""

from __future__ import annotations

import contextlib
import time

from ..journal.journal import Journal
from ..process.extras import Extras
from ..process.record import Record
from ..process.registry import Registry


class ProgressWriter:
    """Makes the journal write the rows of running tasks again. From any thread."""

    def __init__(self, registry: Registry, journal: Journal, interval: float) -> None:
        """
        Args:
            interval: seconds between two writes of a task's progress. A task may report a million steps.
        """
        self._registry = registry
        self._journal = journal
        self._interval = interval

    def write_soon(self, record: Record) -> None:
        """Have the progress of a task written, at most once in an interval."""
        extras = record.extras
        assert extras is not None  # It holds the progress.
        extras.version += 1
        if not extras.is_progress_due:
            extras.is_progress_due = True
            with contextlib.suppress(RuntimeError):  # The loop may be closed by now.
                record.loop.call_soon_threadsafe(self._plan, record, extras)

    def write(self, record: Record) -> None:
        """Have a change of a task's extras written now."""
        assert record.extras is not None  # They have changed.
        record.extras.version += 1
        self._put(record)

    def _plan(self, record: Record, extras: Extras) -> None:
        wait = extras.progress_written_at + self._interval - time.monotonic()
        record.loop.call_later(max(wait, 0.0), self._write, record, extras)

    def _write(self, record: Record, extras: Extras) -> None:
        extras.is_progress_due = False
        extras.progress_written_at = time.monotonic()
        self._put(record)

    def _put(self, record: Record) -> None:
        if self._registry.is_live_here(record):
            self._journal.put_again(record)
