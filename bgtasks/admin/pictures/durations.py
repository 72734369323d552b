"""The durations of a function's tasks: a column for each bin of the histogram, with lines for p50, p95 and timeout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...models.histogram import lower_end, quantile, upper_end
from . import WIDTH

HEIGHT = 60
LEAST_BINS = 12  # On the scale, so that tasks of equal duration are not drawn as one wide block.
MOST_BINS = 80  # On the scale, when it is widened for a timeout.


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
class Scale:
    """The range of bins in the picture."""

    first: int
    last: int

    @property
    def bin_width(self) -> float:
        return WIDTH / (self.last - self.first + 1)

    def x(self, seconds: float) -> float:
        """Return the place of a duration within its bin; longer durations are at the right edge."""
        for number in range(self.first, self.last + 1):
            low, high = lower_end(number), upper_end(number)
            if seconds < high:
                return round((number - self.first + (seconds - low) / (high - low)) * self.bin_width, 2)
        return float(WIDTH)


@dataclass(frozen=True)
class Durations:
    bins: list[Bin]
    p50: Line | None
    p95: Line | None
    timeout: Line | None
    count: int


def draw(histogram: Mapping[int, int], timeout: float | None) -> Durations:
    """Draw a histogram on the scale of its bins, which is logarithmic."""
    if not histogram:
        return Durations([], None, None, None, 0)
    scale = _find_scale(histogram, timeout)

    def line_at(seconds: float | None) -> Line | None:
        return Line(scale.x(seconds), seconds) if seconds is not None else None

    most = max(histogram.values())
    return Durations(
        [_draw_bin(number, count, most, scale) for number, count in sorted(histogram.items())],
        line_at(quantile(histogram, 0.5)),
        line_at(quantile(histogram, 0.95)),
        line_at(timeout),
        sum(histogram.values()),
    )


def _find_scale(histogram: Mapping[int, int], timeout: float | None) -> Scale:
    """Return a scale with all bins, with the timeout if it is near, and with room on both sides of few bins."""
    first, last = min(histogram), max(histogram)
    if timeout is not None:
        while upper_end(last) < timeout and last - first < MOST_BINS:
            last += 1
    spare = max(LEAST_BINS - (last - first + 1), 0)
    return Scale(max(first - (spare + 1) // 2, 0), last + spare // 2 + 1)


def _draw_bin(number: int, count: int, most: int, scale: Scale) -> Bin:
    return Bin(
        x=round((number - scale.first) * scale.bin_width, 2),
        width=round(scale.bin_width * 0.86, 2),
        y=round(HEIGHT * (1 - count / most), 2),
        height=round(HEIGHT * count / most, 2),
        count=count,
        shortest=lower_end(number),
        longest=upper_end(number),
    )
