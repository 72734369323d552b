"""A strip of the last tasks of a function, oldest first: the height of a bar is the duration, on a log scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from . import WIDTH

COUNT = 50  # Bars.
HEIGHT = 44
LOWEST = 5  # Height of a bar, so that each one can be seen and clicked.
SHORTEST = 0.001  # Seconds for the lowest bar.
LEAST_TOP = 0.1  # Seconds for the highest bar, at least, so that noise stays flat.


@dataclass(frozen=True)
class Past:
    """A task in the strip."""

    id: UUID
    status: str
    started_at: datetime | None
    finished_at: datetime | None

    def seconds(self, now: datetime) -> float | None:
        """Return the duration, up to now for a running task; None for a task that never ran."""
        if self.started_at is None:
            return None
        return max(((self.finished_at or now) - self.started_at).total_seconds(), 0.0)


@dataclass(frozen=True)
class Bar:
    task: Past
    x: float
    y: float
    height: float
    seconds: float | None
    is_current: bool


@dataclass(frozen=True)
class Strip:
    bars: list[Bar]
    slot: float  # The width of a bar with its gap.
    width: float  # Of a bar.
    longest: float | None  # Seconds.


def draw(tasks: Sequence[Past], now: datetime, current: UUID | None = None) -> Strip:
    """
    Draw tasks, oldest first.

    >>> from datetime import UTC, timedelta
    >>> now = datetime(2026, 1, 2, tzinfo=UTC)
    >>> took = [timedelta(seconds=seconds) for seconds in (0.0, 0.01, 1.0)]
    >>> strip = draw([Past(UUID(int=n), "SUCCESSFUL", now - length, now) for n, length in enumerate(took)], now)
    >>> [(bar.x, bar.height) for bar in strip.bars], strip.longest
    ([(0.0, 5.0), (20.0, 18.0), (40.0, 44.0)], 1.0)
    """
    slot = WIDTH / max(COUNT, len(tasks))
    lengths = [task.seconds(now) for task in tasks]
    longest = max((length for length in lengths if length is not None), default=None)
    top = max(longest or 0.0, LEAST_TOP)
    bars = []
    for number, (task, seconds) in enumerate(zip(tasks, lengths, strict=True)):
        height = round(LOWEST + (HEIGHT - LOWEST) * _share(seconds, top), 1)
        bars.append(Bar(task, round(number * slot, 2), round(HEIGHT - height, 1), height, seconds, task.id == current))
    return Strip(bars, round(slot, 2), round(slot * 0.72, 2), longest)


def _share(seconds: float | None, top: float) -> float:
    if seconds is None or seconds <= SHORTEST:
        return 0.0
    return math.log(seconds / SHORTEST) / math.log(top / SHORTEST)
