"""The tally: counts and durations of the finished tasks of this process, counted as they are written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from ..models.histogram import SHORTEST, Histogram, bin_of
from ..process.record import Entry, Record
from ..status import Status
from ..transitions import Verdict

MAX_NAMES = 200  # Counted apart between two calls of `Tally.take`. Coroutine objects may each have their own name.
OTHERS = "…"  # The name for tasks of all further names.


class Counts:
    """The counts and durations of the tasks of one name."""

    __slots__ = ("failed", "statuses", "took", "waited")

    def __init__(self) -> None:
        self.statuses: dict[str, int] = {}
        self.took: Histogram = {}  # Of the last attempts.
        self.waited: Histogram = {}  # Until the first start, counted from `fire` or from `run_after`.
        self.failed = 0  # The number of the newest task that failed, was lost or was interrupted. 0: there is none.

    def as_json(self) -> dict[str, Any]:
        counts: dict[str, Any] = {"statuses": self.statuses, "took": self.took, "waited": self.waited}
        return {**counts, "failed": str(UUID(int=self.failed))} if self.failed else counts


class Tally:
    """
    Counts on the journal's thread, which also takes the counts. This takes less than a microsecond per task.

    Attributes:
        writes: the number of committed changes. It only grows; read from any thread.
    """

    def __init__(self) -> None:
        self.writes = 0
        self._by_name: dict[str, Counts] = {}

    def count_written(self, changes: Sequence[tuple[Record, Sequence[Entry]]]) -> None:
        """Count the tasks that a committed batch has finished."""
        self.writes += len(changes)
        by_name = self._by_name
        # Once for the batch: on Python 3.11 a lookup on an enum takes 80 ns.
        ready, running, successful = Status.READY, Status.RUNNING, Status.SUCCESSFUL
        for record, entries in changes:
            status, ended, _, _ = entries[-1]
            if status is running or status is ready:
                continue
            counts = by_name.get(record.name) or self._find(record.name)
            statuses, word = counts.statuses, status._value_  # `value` is a property, and the hash of a member a call.
            statuses[word] = statuses.get(word, 0) + 1
            if status is not successful and status is not Status.CANCELLED:
                counts.failed = max(counts.failed, record.number)
            if len(entries) < 2 or entries[-2][0] is not running:
                continue  # It never ran, or ran in another process.
            _, started, attempt, _ = entries[-2]
            seconds = ended - started
            number = bin_of(seconds) if seconds >= SHORTEST else 0
            counts.took[number] = counts.took.get(number, 0) + 1
            if attempt == 1:
                is_started_at_once = len(entries) == 2 and not record.prior
                number = 0 if is_started_at_once else bin_of(started - _due_at(record))
                counts.waited[number] = counts.waited.get(number, 0) + 1

    def count_verdict(self, verdict: Verdict) -> None:
        """Count a task that was ended without a record of this process."""
        self.writes += 1
        counts, word = self._find(verdict.name), verdict.status.value
        counts.statuses[word] = counts.statuses.get(word, 0) + 1
        if verdict.status is not Status.CANCELLED:
            counts.failed = max(counts.failed, verdict.id.int)

    def take(self) -> dict[str, Counts]:
        """Return the counts since the last call, by name."""
        taken, self._by_name = self._by_name, {}
        return taken

    def _find(self, name: str) -> Counts:
        counts = self._by_name.get(name)
        if counts is None:
            if len(self._by_name) >= MAX_NAMES:
                name = OTHERS
            counts = self._by_name.setdefault(name, Counts())
        return counts


def _due_at(record: Record) -> float:
    """Return the moment at which a task could have started, in seconds since the epoch."""
    fired_at = (record.number >> 80) / 1000  # A UUIDv7 begins with its milliseconds.
    run_after = record.extras.run_after if record.extras is not None else None
    return fired_at if run_after is None else max(fired_at, run_after)
