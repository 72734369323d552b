"""The report of a drain: its row is written from it, and `bgtasks.drain()` returns it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

MAX_COURSE = 200  # Points of a drain's course, evenly spread over the time that it may take.


@dataclass
class DrainReport:
    """How a drain went."""

    asked_by: str
    started_at: float  # Seconds since the epoch.
    running_at_start: int
    seconds: float = 0.0
    finished_count: int = 0  # In time.
    cancelled_count: int = 0  # Cut short at the deadline.
    left_count: int = 0  # Did not end even when cancelled.
    names: Counter[str] = field(default_factory=Counter)  # Of the tasks that did not finish.
    cut_short_after: float | None = None  # Seconds until the unfinished tasks were cut short.
    course: list[tuple[float, int]] = field(default_factory=list)  # (seconds, unfinished tasks), up to MAX_COURSE.
    is_written: bool = False  # Whether everything was committed before the deadline.
