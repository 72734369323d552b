"""How long a function's tasks take: a column for each bin of the histogram, p50, p95, and the line of the timeout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...models.histogram import lower_end, quantile, upper_end
from . import WIDTH

HEIGHT = 60
LEAST_BINS = 12  # So that a function whose tasks all take the same is not one wide block.


@dataclass(frozen=True)
class Bin:
    x: float
    width: float
    y: float
    height: float
    count: int
    shortest: float  # Seconds.
    longest: float


@dataclass(frozen=True)
class Line:
    x: float
    seconds: float


@dataclass(frozen=True)
class Durations:
    bins: list[Bin]
    p50: Line | None
    p95: Line | None
    timeout: Line | None
    count: int


def draw(histogram: Mapping[int, int], timeout: float | None) -> Durations:
    """Draw a histogram on the scale of its bins, on which a doubling is always as wide."""
    if not histogram:
        return Durations([], None, None, None, 0)
    first, last = min(histogram), max(histogram)
    if timeout is not None:
        while upper_end(last) < timeout and last - first < 80:
            last += 1
    spare = max(LEAST_BINS - (last - first + 1), 0)
    first, last = max(first - (spare + 1) // 2, 0), last + spare // 2 + 1
    width = WIDTH / (last - first + 1)
    most = max(histogram.values())
    bins = [
        Bin(
            round((number - first) * width, 2),
            round(width * 0.86, 2),
            round(HEIGHT * (1 - count / most), 2),
            round(HEIGHT * count / most, 2),
            count,
            lower_end(number),
            upper_end(number),
        )
        for number, count in sorted(histogram.items())
    ]

    def line_at(seconds: float | None) -> Line | None:
        if seconds is None:
            return None
        for number in range(first, last + 1):
            if seconds < upper_end(number):
                low, high = lower_end(number), upper_end(number)
                return Line(round((number - first + (seconds - low) / (high - low)) * width, 2), seconds)
        return Line(float(WIDTH), seconds)

    return Durations(
        bins,
        line_at(quantile(histogram, 0.5)),
        line_at(quantile(histogram, 0.95)),
        line_at(timeout),
        sum(histogram.values()),
    )
