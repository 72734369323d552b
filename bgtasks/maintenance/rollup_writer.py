"""The rollup writer: adds what the tasks of this process came to, in stretches of a minute, half an hour, two hours."""

from __future__ import annotations

import logging
import math
import time
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import DatabaseError, router, transaction
from django.utils import timezone

from ..journal.statements import bounded_transaction, is_missing_table
from ..journal.tally import MAX_NAMES, OTHERS, Counts
from ..log import log
from ..models import BackgroundTask, Rollup, histogram
from ..models.moments import to_datetime
from ..runtime.runner import Runner
from ..uuid7 import uuid7

EVERY = 2.0  # Seconds.
LAG_EVERY = 30.0  # Seconds between two notes of the loop's lag where no task ends.
MISSING_RETRY = 60.0  # Seconds.
PRUNE_EVERY = 3600.0  # Seconds.
# Seconds for which rollups are kept. The longest pictures are of an hour (and three), three days, and seven.
KEPT = {
    Rollup.Resolution.MINUTE: 4 * 3600,
    Rollup.Resolution.HALF_HOUR: 4 * 86400,
    Rollup.Resolution.TWO_HOURS: 9 * 86400,
}


class Stretch:
    """The rollup of one resolution that is being added to."""

    def __init__(self, resolution: Rollup.Resolution, now: float, process: UUID) -> None:
        self.resolution = resolution
        self.number = int(now // resolution)
        self.process = process
        self._tasks: dict[str, Counts] = {}
        self._lag: float | None = None
        self._is_inserted = False

    def holds(self, now: float, process: UUID) -> bool:
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
        """Write the row as it should stand, whatever became of an earlier try, in the open transaction."""
        rows = Rollup.objects.using(using)
        which: dict[str, Any] = {"resolution": self.resolution, "starts_at": self._starts_at, "process": self.process}
        what = {"tasks": {name: counts.as_json() for name, counts in self._tasks.items()}, "lag": self._lag}
        if self._is_inserted and rows.filter(**which).update(**what):
            return
        rows.update_or_create(**which, defaults=what)
        self._is_inserted = True

    @property
    def _starts_at(self) -> datetime:
        return to_datetime(self.number * self.resolution)


class RollupWriter:
    """
    Takes the tally every two seconds while tasks end.

    A row is written whole, so one whose answer got lost is just written again.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._stretches: list[Stretch] = []
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
            # The release was rolled out before its migration. Tasks can be recorded, and must be.
            self._next = now + MISSING_RETRY
            log(logging.WARNING, "What the admin's pictures are drawn from is not recorded. Run `manage.py migrate`.")
            return
        if self._prune_at <= now < math.inf and self._runner.claims_for_others:
            self._prune_at = now + PRUNE_EVERY
            prune(router.db_for_write(BackgroundTask), timezone.now())

    def flush_last(self) -> None:
        """Write what is left at the end of the process."""
        self.run_once(math.inf)

    def flush(self, now: float) -> None:
        """Write what was counted since the last time."""
        journal = self._runner.journal
        taken = journal.tally.take()
        if taken or now >= self._lag_at:
            self._lag_at = now + LAG_EVERY
            self._add(taken, journal.heartbeat.take_worst_lag())
        if self._is_written:
            return
        using = router.db_for_write(BackgroundTask)
        with bounded_transaction(using):
            for stretch in self._stretches:
                stretch.write(using)
        self._is_written = True

    def _add(self, taken: dict[str, Counts], lag: float | None) -> None:
        if not taken and lag is None:
            return
        seconds, process = time.time(), self._runner.journal.process_id
        self._stretches = [each for each in self._stretches if each.holds(seconds, process)]
        missing = set(Rollup.Resolution) - {each.resolution for each in self._stretches}
        self._stretches += [Stretch(resolution, seconds, process) for resolution in missing]
        for stretch in self._stretches:
            stretch.add(taken, lag)
        self._is_written = False


def write_apart(using: str, taken: dict[str, Counts]) -> None:
    """Write what was counted where no journal runs, in rollups of no process: nobody adds to them."""
    seconds, nobody = time.time(), uuid7()
    with transaction.atomic(using=using):
        for resolution in Rollup.Resolution:
            stretch = Stretch(resolution, seconds, nobody)
            stretch.add(taken, None)
            stretch.write(using)


def prune(using: str, now: datetime) -> None:
    """Delete the rollups that no picture shows any more."""
    for resolution, seconds in KEPT.items():
        old = Rollup.objects.using(using).filter(resolution=resolution, starts_at__lt=now - timedelta(seconds=seconds))
        with bounded_transaction(using):
            old.delete()
