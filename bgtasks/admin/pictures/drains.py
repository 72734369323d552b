"""A drain: how many tasks were left at each moment, until the deadline; what was cut short then stands in red."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from . import WIDTH

HEIGHT = 48
TAIL = 30  # Of the width. After the end, so that the last step down is seen.


@dataclass(frozen=True)
class DrainPicture:
    points: str  # Of the area under the stairs.
    cut_points: str  # Of the part after the rest was cut short.
    cut_x: float | None
    seconds: float


def draw(course: Any, running_at_start: int, seconds: float, cut_short_after: float | None) -> DrainPicture:
    """
    Draw the stairs down which the tasks went. What did not end goes on to the edge.

    Args:
        course: as it is stored, of which nothing is taken for granted.

    >>> draw([[0, 4], [1, 2]], 4, 2.0, None).points
    '0.0,48.0 0.0,0.0 485.0,0.0 485.0,24.0 1000.0,24.0 1000.0,48.0'
    >>> draw([[0, 1], [3, 0]], 1, 3.0, None).points
    '0.0,48.0 0.0,0.0 970.0,0.0 970.0,48.0'
    """
    steps = list(_read(course)) or [(0.0, running_at_start), (seconds, 0)]
    length = max(seconds, steps[-1][0], 0.001)
    most = max([running_at_start, 1, *(left for _, left in steps)])

    def stairs(part: Sequence[tuple[float, int]], end_x: float) -> str:
        points = [(x_of(part[0][0]), float(HEIGHT))]
        previous = part[0][1]
        for at, left in part:
            points += [(x_of(at), y_of(previous)), (x_of(at), y_of(left))]
            previous = left
        points += [(end_x, y_of(previous)), (end_x, float(HEIGHT))]
        unique = [point for index, point in enumerate(points) if not index or point != points[index - 1]]
        return " ".join(f"{x},{y}" for x, y in unique)

    def x_of(at: float) -> float:
        return round((WIDTH - TAIL) * at / length, 1)

    def y_of(left: int) -> float:
        return round(HEIGHT * (1 - left / most), 1)

    last_x = float(WIDTH) if steps[-1][1] else x_of(length)
    if cut_short_after is None:
        return DrainPicture(stairs(steps, last_x), "", None, length)
    before = [step for step in steps if step[0] <= cut_short_after] or [(0.0, running_at_start)]
    after = [(cut_short_after, before[-1][1]), *(step for step in steps if step[0] > cut_short_after)]
    cut_x = x_of(cut_short_after)
    return DrainPicture(stairs(before, cut_x), stairs(after, last_x), cut_x, length)


def _read(course: Any) -> list[tuple[float, int]]:
    found = []
    for step in course if isinstance(course, list) else []:
        if isinstance(step, list) and len(step) == 2 and all(isinstance(each, int | float) for each in step):
            found.append((max(float(step[0]), 0.0), max(int(step[1]), 0)))
    return found
