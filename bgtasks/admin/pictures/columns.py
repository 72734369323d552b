"""Columns: the number of tasks that ended in each interval, stacked by status."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ...reports.rollups import Total
from ...status import Status
from . import WIDTH

HEIGHT = 160
ORDER = (Status.SUCCESSFUL, Status.CANCELLED, Status.INTERRUPTED, Status.LOST, Status.FAILED)  # From the bottom.
THINNEST = 2.0  # Units, so that one failure among a thousand is visible.


@dataclass(frozen=True)
class Part:
    status: Status
    y: float
    height: float
    count: int


@dataclass(frozen=True)
class Column:
    starts_at: datetime
    x: float
    width: float
    parts: Sequence[Part]
    count: int


def draw(totals: Sequence[tuple[datetime, Total]]) -> tuple[list[Column], int]:
    """Return the columns, and the number at the upper edge."""
    most = max((total.count for _, total in totals), default=0)
    top = nice_ceiling(most)
    width = WIDTH / max(len(totals), 1)
    columns = []
    for index, (starts_at, total) in enumerate(totals):
        parts = list(_stack(total, top))
        columns.append(Column(starts_at, round(index * width, 2), round(width * 0.8, 2), parts, total.count))
    return columns, top


def _stack(total: Total, top: int) -> list[Part]:
    y, parts = float(HEIGHT), []
    for status in ORDER:
        count = total.statuses.get(status.value, 0)
        if count:
            height = max(HEIGHT * count / top, THINNEST)
            y -= height
            parts.append(Part(status, round(max(y, 0.0), 2), round(height, 2), count))
    return parts


def nice_ceiling(number: float) -> int:
    """
    Return the next number that is easy to read on an axis.

    >>> [nice_ceiling(number) for number in (0, 1, 7, 23, 180, 2001)]
    [1, 1, 10, 25, 200, 2500]
    """
    ceiling = 1
    while True:
        for step in (1, 2, 2.5, 5):
            if (candidate := ceiling * step) >= number and candidate == int(candidate):
                return int(candidate)
        ceiling *= 10
