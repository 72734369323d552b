"""The total of rollups."""

from __future__ import annotations

from collections.abc import Iterable

from bgtasks.reports.rollups import Bucket, Total


def total_of(buckets: Iterable[Bucket]) -> Total:
    """Add up the tasks of all names."""
    total = Total()
    for bucket in buckets:
        for counts in bucket.tasks.values():
            total.add(counts)
    return total
