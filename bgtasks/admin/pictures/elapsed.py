"""How long a task runs already, as a bar beside the p95 of its function."""

from __future__ import annotations

from dataclasses import dataclass

from . import WIDTH

P95_AT = 0.6  # Of the width, where there is room for more.


@dataclass(frozen=True)
class Elapsed:
    width: float
    p95_x: float | None
    kind: str  # "normal", "slow" (longer than 95 of 100), or "late" (past its threshold).


def draw(elapsed: float, p95: float | None, threshold: float | None) -> Elapsed:
    """
    Draw on a scale on which the p95 stands at 60 %; without one, on one that fills up to the threshold or a minute.

    >>> draw(5.0, 10.0, None)
    Elapsed(width=300.0, p95_x=600.0, kind='normal')
    """
    length = p95 / P95_AT if p95 else threshold or 60.0
    is_late = threshold is not None and elapsed > threshold
    is_slow = p95 is not None and elapsed > p95
    kind = "late" if is_late else "slow" if is_slow else "normal"
    width = round(min(WIDTH * elapsed / length, float(WIDTH)), 1)
    return Elapsed(max(width, 4.0), WIDTH * P95_AT if p95 else None, kind)
