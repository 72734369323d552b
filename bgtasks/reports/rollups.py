"""What became of the tasks of the last hour, day and week, read from the rollups and never from the tasks' rows."""

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
# The finest resolution for a span, and the longest span that it is kept for and quick to read in.
FINEST = ((timedelta(hours=3), MINUTE), (timedelta(days=3), HALF_HOUR), (timedelta(days=8), TWO_HOURS))


PARTS = ("statuses", "took", "waited", "failed")


@dataclass
class Total:
    """What tasks came to."""

    statuses: Counter[str] = field(default_factory=Counter)
    took: Histogram = field(default_factory=dict)
    waited: Histogram = field(default_factory=dict)
    failed: str = ""  # The id of the newest that failed, or was lost or interrupted.

    def add(self, counts: Any, parts: Iterable[str] = PARTS) -> None:
        """Add what a rollup says of a name. There may be thousands of these, so plain loops."""
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
        """How many durations the histogram rests on."""
        return sum(self.took.values())


@dataclass(frozen=True)
class Stretch:
    """A rollup, as far as the pictures need it."""

    starts_at: datetime
    process: UUID
    tasks: dict[str, Any]
    lag: float | None


def find_resolution(span: timedelta) -> Rollup.Resolution:
    """
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
) -> list[Stretch]:
    """
    Return the rollups that reach into the last `span` before `now`, oldest first. One query.

    Args:
        processes: those of these. None: of all.
    """
    since = now - span - timedelta(seconds=resolution)
    rows = Rollup.objects.using(using).filter(resolution=resolution, starts_at__gt=since).order_by("starts_at")
    if processes is not None:
        rows = rows.filter(process__in=processes)
    return [Stretch(*row) for row in rows.values_list("starts_at", "process", "tasks", "lag")]


def total_by_name(stretches: Iterable[Stretch], parts: Iterable[str] = PARTS) -> dict[str, Total]:
    """Add up what came of each name; of `parts` only, since histograms are what takes time."""
    totals: dict[str, Total] = {}
    for stretch in stretches:
        for name, counts in stretch.tasks.items():
            total = totals.get(name)
            if total is None:
                total = totals[name] = Total()
            total.add(counts, parts)
    return totals


def total_by_stretch(
    stretches: Iterable[Stretch],
    resolution: Rollup.Resolution,
    now: datetime,
    span: timedelta,
    parts: Iterable[str] = PARTS,
) -> list[tuple[datetime, Total]]:
    """Return a total for each stretch of the span, also of those in which nothing ended, oldest first."""
    count = int(span.total_seconds() // resolution)
    newest = int(now.timestamp() // resolution)  # As the rollup writer counts them.
    starts = [to_datetime((newest - back) * resolution) for back in reversed(range(count))]
    totals = {start: Total() for start in starts}
    for stretch in stretches:
        if (total := totals.get(stretch.starts_at)) is not None:
            for counts in stretch.tasks.values():
                total.add(counts, parts)
    return list(totals.items())
