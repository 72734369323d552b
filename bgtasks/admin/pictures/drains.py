"""A drain: the number of tasks left over time. The part after the deadline, when the rest was cut short, is red."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from . import WIDTH

HEIGHT = 48
TAIL = 30  # Units after the end, so that the last step down is visible.

Step = tuple[float, int]  # Seconds since the start, and tasks left from then on.


@dataclass(frozen=True)
class DrainPicture:
    points: str  # Of the area under the stairs.
    cut_points: str  # Of the part after the deadline.
    cut_x: float | None
    seconds: float


@dataclass(frozen=True)
class _Stairs:
    """Turns steps (seconds, tasks left) into the points of an area."""

    length: float  # Seconds on the picture.
    most: int  # Tasks at the upper edge.

    def x(self, at: float) -> float:
        return round((WIDTH - TAIL) * at / self.length, 1)

    def y(self, left: int) -> float:
        return round(HEIGHT * (1 - left / self.most), 1)

    def draw(self, steps: Sequence[Step], end_x: float) -> str:
        points = [(self.x(steps[0][0]), float(HEIGHT))]
        previous = steps[0][1]
        for at, left in steps:
            points += [(self.x(at), self.y(previous)), (self.x(at), self.y(left))]
            previous = left
        points += [(end_x, self.y(previous)), (end_x, float(HEIGHT))]
        return " ".join(f"{x},{y}" for (x, y), _equal in groupby(points))


def draw(course: Any, running_at_start: int, seconds: float, cut_short_after: float | None) -> DrainPicture:
    """
    Draw the number of tasks left as stairs. Tasks that did not end go on to the right edge.

    Args:
        course: the JSON of the row, which may hold anything.

    >>> draw([[0, 4], [1, 2]], 4, 2.0, None).points
    '0.0,48.0 0.0,0.0 485.0,0.0 485.0,24.0 1000.0,24.0 1000.0,48.0'
    >>> draw([[0, 1], [3, 0]], 1, 3.0, None).points
    '0.0,48.0 0.0,0.0 970.0,0.0 970.0,48.0'
    """
    steps = list(_read(course)) or [(0.0, running_at_start), (seconds, 0)]
    length = max(seconds, steps[-1][0], 0.001)
    stairs = _Stairs(length, max([running_at_start, 1, *(left for _, left in steps)]))
    end_x = float(WIDTH) if steps[-1][1] else stairs.x(length)
    if cut_short_after is None:
        return DrainPicture(stairs.draw(steps, end_x), "", None, length)
    before = [step for step in steps if step[0] <= cut_short_after] or [(0.0, running_at_start)]
    after = [(cut_short_after, before[-1][1]), *(step for step in steps if step[0] > cut_short_after)]
    cut_x = stairs.x(cut_short_after)
    return DrainPicture(stairs.draw(before, cut_x), stairs.draw(after, end_x), cut_x, length)


def _read(course: Any) -> list[Step]:
    found = []
    for step in course if isinstance(course, list) else []:
        if isinstance(step, list) and len(step) == 2 and all(isinstance(each, int | float) for each in step):
            found.append((max(float(step[0]), 0.0), max(int(step[1]), 0)))
    return found
