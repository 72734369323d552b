"""The elapsed time of a running task, as a bar beside the p95 of its function."""

from __future__ import annotations

from dataclasses import dataclass

from . import WIDTH

P95_AT = 0.6  # Of the width, which leaves room for longer durations.


@dataclass(frozen=True)
class Elapsed:
    width: float
    p95_x: float | None
    kind: str  # "normal", "slow" (past the p95), or "late" (past its threshold).


def draw(elapsed: float, p95: float | None, threshold: float | None) -> Elapsed:
    """
    Draw the bar on a scale with the p95 at 60 %. Without a p95 the scale ends at the threshold, or at one minute.

    >>> draw(5.0, 10.0, None)
    Elapsed(width=300.0, p95_x=600.0, kind='normal')
    """
    length = p95 / P95_AT if p95 else threshold or 60.0
    is_late = threshold is not None and elapsed > threshold
    is_slow = p95 is not None and elapsed > p95
    kind = "late" if is_late else "slow" if is_slow else "normal"
    width = round(min(WIDTH * elapsed / length, float(WIDTH)), 1)
    return Elapsed(max(width, 4.0), WIDTH * P95_AT if p95 else None, kind)
