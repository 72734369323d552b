"""Swimlanes: a row for each process, with a bar for each of its tasks, over a period that ends now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from ...status import Status
from . import WIDTH

MAX_TRACKS = 10  # Bars above each other in one swimlane. The others are only counted.
TRACK, BAR = 16, 12  # Pixels: of a track, and of the bar in it.
GAP = 3  # Units between two bars of a track.
THINNEST = 3  # Units, so that the shortest task can be seen and clicked.


@dataclass(frozen=True)
class SwimlaneTask:
    """A task in a swimlane."""

    id: UUID
    name: str
    status: str
    started_at: datetime
    finished_at: datetime | None
    threshold: float | None  # Seconds after which the running task is stuck.
    url: str = ""


@dataclass(frozen=True)
class Bar:
    task: SwimlaneTask
    x: float
    width: float
    track: int
    late_x: float | None  # Where the part past the threshold begins.

    @property
    def late_width(self) -> float:
        return self.x + self.width - self.late_x if self.late_x is not None else 0.0

    @property
    def y(self) -> int:
        return self.track * TRACK + (TRACK - BAR) // 2

    @property
    def is_open(self) -> bool:
        return self.task.finished_at is None


@dataclass(frozen=True)
class Mark:
    """An event of the process: a line across its swimlane."""

    kind: str  # "start", "deploy", "drain" or "end".
    at: datetime
    label: str
    x: float = 0.0


@dataclass
class Swimlane:
    """One process."""

    label: str
    state: str
    state_label: str
    url: str = ""
    bars: list[Bar] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    hidden_count: int = 0

    @property
    def track_count(self) -> int:
        return max((bar.track + 1 for bar in self.bars), default=1)

    @property
    def height(self) -> int:
        return self.track_count * TRACK

    @property
    def running_count(self) -> int:
        return sum(bar.is_open for bar in self.bars)


@dataclass(frozen=True)
class Scale:
    """The period in the picture."""

    now: datetime
    seconds: float

    def x(self, moment: datetime) -> float:
        """Return the position of a moment; earlier moments are at the left edge."""
        age = (self.now - moment).total_seconds()
        return round(min(max(WIDTH * (1 - age / self.seconds), 0.0), float(WIDTH)), 1)


def fill(swimlane: Swimlane, tasks: Iterable[SwimlaneTask], marks: Sequence[Mark], scale: Scale) -> None:
    """Put tasks and marks into a swimlane. Each task, oldest first, takes the first track that is free at its start."""
    ends: list[float] = []
    for task in sorted(tasks, key=lambda task: task.started_at):
        x = scale.x(task.started_at)
        end = max(scale.x(task.finished_at or scale.now), x + THINNEST)
        track = next((number for number, free_from in enumerate(ends) if free_from <= x), len(ends))
        if track == MAX_TRACKS:
            swimlane.hidden_count += 1
            continue
        ends[track : track + 1] = [end + GAP]
        swimlane.bars.append(Bar(task, x, round(end - x, 1), track, _late_from(task, scale, x, end)))
    since = scale.now - timedelta(seconds=scale.seconds)
    swimlane.marks = [Mark(mark.kind, mark.at, mark.label, scale.x(mark.at)) for mark in marks if mark.at >= since]


def _late_from(task: SwimlaneTask, scale: Scale, x: float, end: float) -> float | None:
    if task.threshold is None or task.status != Status.RUNNING:
        return None
    late_x = max(scale.x(task.started_at + timedelta(seconds=task.threshold)), x)
    return late_x if late_x < end else None
