"""The rollup writer: adds up the finished tasks of this process, by the minute, half hour and two hours."""

from __future__ import annotations

import logging
import math
import time
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import DatabaseError, router, transaction
from django.utils import timezone

from ..journal.journal import Journal
from ..journal.statements import bounded_transaction, is_missing_table
from ..journal.tally import MAX_NAMES, OTHERS, Counts
from ..log import log
from ..models import BackgroundTask, Rollup, histogram
from ..models.moments import to_datetime
from ..process.state import ProcessState
from ..uuid7 import uuid7

EVERY = 2.0  # Seconds.
LAG_EVERY = 30.0  # Seconds between two records of the loop's lag while no task ends.
MISSING_RETRY = 60.0  # Seconds.
PRUNE_EVERY = 3600.0  # Seconds.
# Seconds for which rollups are kept. The pictures of minutes cover one or three hours, the others three and seven days.
KEPT = {
    Rollup.Resolution.MINUTE: 4 * 3600,
    Rollup.Resolution.HALF_HOUR: 4 * 86400,
    Rollup.Resolution.TWO_HOURS: 9 * 86400,
}


class RollupBucket:
    """The current rollup of one resolution."""

    def __init__(self, resolution: Rollup.Resolution, now: float, process: UUID) -> None:
        self.resolution = resolution
        self.number = int(now // resolution)
        self.process = process
        self._tasks: dict[str, Counts] = {}
        self._lag: float | None = None
        self._is_inserted = False

    def covers(self, now: float, process: UUID) -> bool:
        return self.number == int(now // self.resolution) and self.process == process

    def add(self, taken: dict[str, Counts], lag: float | None) -> None:
        for name, more in taken.items():
            if name not in self._tasks and len(self._tasks) >= MAX_NAMES:
                name = OTHERS
            counts = self._tasks.setdefault(name, Counts())
            for status, count in more.statuses.items():
                counts.statuses[status] = counts.statuses.get(status, 0) + count
            histogram.add(counts.took, more.took)
            histogram.add(counts.waited, more.waited)
            counts.failed = max(counts.failed, more.failed)
        if lag is not None:
            self._lag = max(lag, self._lag or 0.0)

    def write(self, using: str) -> None:
        """Write the whole row in the open transaction, whether or not an earlier try was committed."""
        rows = Rollup.objects.using(using)
        key: dict[str, Any] = {"resolution": self.resolution, "starts_at": self._starts_at, "process": self.process}
        values = {"tasks": {name: counts.as_json() for name, counts in self._tasks.items()}, "lag": self._lag}
        if self._is_inserted and rows.filter(**key).update(**values):
            return
        rows.update_or_create(**key, defaults=values)
        self._is_inserted = True

    @property
    def _starts_at(self) -> datetime:
        return to_datetime(self.number * self.resolution)


class RollupWriter:
    """
    Writes the journal's tally every two seconds while tasks end.

    A row is always written as a whole. So after a commit whose answer was lost, it is just written again.
    """

    def __init__(self, state: ProcessState, journal: Journal) -> None:
        self._state = state
        self._journal = journal
        self._buckets: list[RollupBucket] = []
        self._is_written = True
        self._next = 0.0
        self._lag_at = 0.0
        self._prune_at = 0.0

    def seconds_until_due(self, now: float) -> float:
        return max(self._next - now, 0.0)

    def run_once(self, now: float) -> None:
        self._next = now + EVERY
        try:
            self.flush(now)
        except DatabaseError as error:
            if not is_missing_table(error):
                raise
            # This release was rolled out before its migration. The journal can write tasks all the same.
            self._next = now + MISSING_RETRY
            log(logging.WARNING, "The numbers for the admin's pictures are not recorded. Run `manage.py migrate`.")
            return
        if self._prune_at <= now < math.inf and self._state.is_server:
            self._prune_at = now + PRUNE_EVERY
            prune(router.db_for_write(BackgroundTask), timezone.now())

    def flush_last(self) -> None:
        """Write the rest at the end of the process."""
        self.run_once(math.inf)

    def flush(self, now: float) -> None:
        """Write the counts since the last call."""
        taken = self._journal.tally.take()
        if taken or now >= self._lag_at:
            self._lag_at = now + LAG_EVERY
            self._add(taken, self._journal.heartbeat.take_worst_lag())
        if self._is_written:
            return
        using = router.db_for_write(BackgroundTask)
        with bounded_transaction(using):
            for bucket in self._buckets:
                bucket.write(using)
        self._is_written = True

    def _add(self, taken: dict[str, Counts], lag: float | None) -> None:
        if not taken and lag is None:
            return
        seconds, process = time.time(), self._state.id
        self._buckets = [each for each in self._buckets if each.covers(seconds, process)]
        missing = set(Rollup.Resolution) - {each.resolution for each in self._buckets}
        self._buckets += [RollupBucket(resolution, seconds, process) for resolution in missing]
        for bucket in self._buckets:
            bucket.add(taken, lag)
        self._is_written = False


def write_apart(using: str, taken: dict[str, Counts]) -> None:
    """Write counts from a process without a journal, in rollups that belong to no process and never grow."""
    seconds, no_process = time.time(), uuid7()
    with transaction.atomic(using=using):
        for resolution in Rollup.Resolution:
            bucket = RollupBucket(resolution, seconds, no_process)
            bucket.add(taken, None)
            bucket.write(using)


def prune(using: str, now: datetime) -> None:
    """Delete the rollups that no picture shows any more."""
    for resolution, seconds in KEPT.items():
        old = Rollup.objects.using(using).filter(resolution=resolution, starts_at__lt=now - timedelta(seconds=seconds))
        with bounded_transaction(using):
            old.delete()
