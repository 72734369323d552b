"""The pruner: deletes finished rows that are older than the retention."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connections, models, router
from django.utils import timezone

from ..conf import Settings
from ..definition.rate import LONGEST_PERIOD
from ..journal.statements import bounded_transaction
from ..models import BackgroundTask, Drain, Process, RateLimit
from ..process.state import ProcessState
from ..status import FINISHED, Status
from ..uuid7 import first_id_of

BATCH = 500  # Rows in one transaction.
FIRST = (300.0, 900.0)  # Seconds from a process's start to its first turn, at random: many may start together.
EVERY = 3600.0  # Seconds.
PAUSE = 1.0  # Seconds between two batches of the service, since the journal has tasks to write.


@dataclass(frozen=True)
class Retention:
    """The rows that are older than the retention at the moment `now`."""

    alias: str
    settings: Settings
    now: datetime

    def count(self) -> Counter[str]:
        """Return the numbers of rows to delete: of tasks by status, of "processes", "drains" and "rate limits"."""
        return Counter({kind: number for kind, rows in self._due() if (number := rows.count())})

    def prune(self, size: int = BATCH) -> Iterator[Counter[str]]:
        """Delete these rows in batches, each a transaction of its own; yield the numbers of each batch, as `count`."""
        for kind, rows in self._due():
            while deleted := self._delete(rows, size):
                yield Counter({kind: deleted})
                if deleted < size:
                    break

    def prune_batch(self, size: int) -> Counter[str]:
        """Delete one batch; return its numbers, empty if there was no such row."""
        return next(self.prune(size), Counter())

    def _due(self) -> Iterator[tuple[str, Any]]:
        settings = self.settings
        for status in sorted(FINISHED):
            is_well = status in (Status.SUCCESSFUL, Status.CANCELLED)
            before = self._before(settings.retention if is_well else settings.retention_failed)
            # For the index: ids are in the order of firing, and a task is fired before it finishes.
            rows = BackgroundTask.objects.using(self.alias).filter(status=status, id__lt=first_id_of(before))
            yield status.value, rows.filter(finished_at__lt=before)
        # Processes and drains stay as long as tasks may refer to them.
        before = self._before(max(settings.retention, settings.retention_failed))
        processes = Process.objects.using(self.alias).filter(state__in=[Process.State.STOPPED, Process.State.DEAD])
        ended = models.Q(stopped_at__lt=before) | models.Q(stopped_at=None, beat_at__lt=before)
        yield "processes", processes.filter(ended, id__lt=first_id_of(before))
        drains = Drain.objects.using(self.alias)
        yield "drains", drains.filter(started_at__lt=before, id__lt=first_id_of(before))
        # No rate has a longer period: older starts do not count any more.
        limits = RateLimit.objects.using(self.alias)
        yield "rate limits", limits.filter(used_at__gt=0, used_at__lt=time.time() - LONGEST_PERIOD)

    def _before(self, seconds: float) -> datetime:
        return self.now - timedelta(seconds=seconds)

    def _delete(self, rows: Any, size: int) -> int:
        with bounded_transaction(self.alias):
            batch = rows.order_by("pk")
            if connections[self.alias].features.has_select_for_update_skip_locked:
                batch = batch.select_for_update(skip_locked=True)  # Another process may be deleting the same rows.
            ids = list(batch.values_list("pk", flat=True)[:size])
            if ids:
                rows.model._default_manager.using(self.alias).filter(pk__in=ids).delete()  # The ledger counts them.
        return len(ids)


class Pruner:
    """Prunes every hour, in batches, and in servers only: other processes, such as commands, end soon."""

    def __init__(self, settings: Settings, state: ProcessState) -> None:
        self._settings = settings
        self._state = state
        self._next: float | None = None

    def seconds_until_due(self, now: float) -> float:
        if self._state.is_ending or not self._state.is_server:
            return EVERY
        if self._next is None:
            self._next = now + random.uniform(*FIRST)  # noqa: S311  # No secret.
        return max(self._next - now, 0.0)

    def run_once(self, now: float) -> None:
        self._next = now + EVERY
        retention = Retention(router.db_for_write(BackgroundTask), self._settings, timezone.now())
        if retention.prune_batch(BATCH):
            self._next = now + PAUSE
