"""Reads from the rollups how the tasks of the last hour, day and week ended, without reading the rows of tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from ..models import Rollup
from ..models.histogram import Histogram
from ..models.moments import to_datetime

MINUTE, HALF_HOUR, TWO_HOURS = Rollup.Resolution
# The longest span for which a resolution is kept and quick to read, and the resolution, the finest first.
FINEST = ((timedelta(hours=3), MINUTE), (timedelta(days=3), HALF_HOUR), (timedelta(days=8), TWO_HOURS))


PARTS = ("statuses", "took", "waited", "failed")


@dataclass
class Total:
    """How tasks ended, and how long they took and waited."""

    statuses: Counter[str] = field(default_factory=Counter)
    took: Histogram = field(default_factory=dict)
    waited: Histogram = field(default_factory=dict)
    failed: str = ""  # The id of the newest task that failed, was lost or was interrupted.

    def add(self, counts: Any, parts: Iterable[str] = PARTS) -> None:
        """Add the counts of one name in a rollup. Plain loops, since there may be thousands of them."""
        for part in parts:
            if part == "statuses":
                statuses = self.statuses
                for status, count in counts["statuses"].items():
                    statuses[status] = statuses.get(status, 0) + count
            elif part == "failed":
                self.failed = max(self.failed, counts.get("failed", ""))
            else:
                bins = self.took if part == "took" else self.waited
                for text, count in counts[part].items():
                    number = int(text)
                    bins[number] = bins.get(number, 0) + count

    @property
    def count(self) -> int:
        return self.statuses.total()

    @property
    def measured(self) -> int:
        """The number of durations in the histogram."""
        return sum(self.took.values())


@dataclass(frozen=True)
class Bucket:
    """A row of the rollups: the tasks of one process that ended in one period."""

    starts_at: datetime
    process: UUID
    tasks: dict[str, Any]
    lag: float | None


def find_resolution(span: timedelta) -> Rollup.Resolution:
    """
    Return the finest resolution for a span.

    >>> find_resolution(timedelta(hours=1)).label, find_resolution(timedelta(days=7)).label
    ('1 minute', '2 hours')
    """
    return next((resolution for longest, resolution in FINEST if span <= longest), TWO_HOURS)


def read(
    using: str,
    resolution: Rollup.Resolution,
    now: datetime,
    span: timedelta,
    processes: Collection[UUID] | None = None,
) -> list[Bucket]:
    """
    Return the rollups that reach into the last `span` before `now`, oldest first. One query.

    Args:
        processes: read the rollups of these only. None: of all.
    """
    since = now - span - timedelta(seconds=resolution)
    rows = Rollup.objects.using(using).filter(resolution=resolution, starts_at__gt=since).order_by("starts_at")
    if processes is not None:
        rows = rows.filter(process__in=processes)
    return [Bucket(*row) for row in rows.values_list("starts_at", "process", "tasks", "lag")]


def total_by_name(buckets: Iterable[Bucket], parts: Iterable[str] = PARTS) -> dict[str, Total]:
    """Return a total for each name, of `parts` only, since adding up histograms takes time."""
    totals: dict[str, Total] = {}
    for bucket in buckets:
        for name, counts in bucket.tasks.items():
            total = totals.get(name)
            if total is None:
                total = totals[name] = Total()
            total.add(counts, parts)
    return totals


def total_by_bucket(
    buckets: Iterable[Bucket],
    resolution: Rollup.Resolution,
    now: datetime,
    span: timedelta,
    parts: Iterable[str] = PARTS,
) -> list[tuple[datetime, Total]]:
    """Return a total for each period of the span, oldest first, those in which no task ended included."""
    count = int(span.total_seconds() // resolution)
    newest = int(now.timestamp() // resolution)  # As the rollup writer counts them.
    starts = [to_datetime((newest - back) * resolution) for back in reversed(range(count))]
    totals = {start: Total() for start in starts}
    for bucket in buckets:
        if (total := totals.get(bucket.starts_at)) is not None:
            for counts in bucket.tasks.values():
                total.add(counts, parts)
    return list(totals.items())
