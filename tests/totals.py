"""What rollups come to in all."""

from __future__ import annotations

from collections.abc import Iterable

from bgtasks.reports.rollups import Stretch, Total


def total_of(stretches: Iterable[Stretch]) -> Total:
    """Add up the tasks of all names."""
    total = Total()
    for stretch in stretches:
        for counts in stretch.tasks.values():
            total.add(counts)
    return total
