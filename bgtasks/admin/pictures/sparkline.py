"""A sparkline: the course of a number over time, without an axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from . import WIDTH

HEIGHT = 40


@dataclass(frozen=True)
class Sparkline:
    pieces: list[str]  # The points of each line. Missing values interrupt it.
    areas: list[str]
    top: float  # The value at the upper edge.
    last: float | None


def draw(values: Sequence[float | None], floor: float = 0.0) -> Sparkline:
    """
    Draw values, oldest first.

    Args:
        floor: the least value at the upper edge, so that noise stays flat.

    >>> draw([1, None, 2, 4]).pieces
    ['0.0,30.0 8.0,30.0', '666.7,20.0 1000.0,0.0']
    """
    top = max([floor, *(value for value in values if value is not None)]) or 1.0
    step = WIDTH / max(len(values) - 1, 1)
    runs: list[list[tuple[float, float]]] = [[]]
    for index, value in enumerate(values):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((round(index * step, 1), round(HEIGHT * (1 - value / top), 1)))
    runs = [run if len(run) > 1 else [*run, (run[0][0] + 8.0, run[0][1])] for run in runs if run]
    measured = [value for value in values if value is not None]
    return Sparkline(
        [" ".join(f"{x},{y}" for x, y in run) for run in runs],
        [" ".join(f"{x},{y}" for x, y in [(run[0][0], HEIGHT), *run, (run[-1][0], HEIGHT)]) for run in runs],
        top,
        measured[-1] if measured else None,
    )
