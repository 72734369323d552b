"""
Histograms of durations: few numbers, whatever was measured, and two can be added.

The bins grow by a constant factor, as in DDSketch (Masson, Rim and Lee, VLDB 2019), so a quantile is off by a constant
part of itself: here by 9 % at most.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

Histogram = dict[int, int]  # {bin: how many}.

SHORTEST = 0.001  # Seconds. Bin 0 holds all that is shorter.
BINS_PER_DOUBLING = 4
LAST_BIN = 120  # Of 2^30 times the shortest, which is 12 days, and of all that is longer.

_FACTOR = BINS_PER_DOUBLING / math.log(2)
_SHIFT = 1 - math.log(SHORTEST) * _FACTOR


def bin_of(seconds: float) -> int:
    """
    Return the bin of a duration.

    >>> bin_of(0), bin_of(0.0009), bin_of(0.001), bin_of(1), bin_of(1e9)
    (0, 0, 1, 40, 120)
    """
    if seconds < SHORTEST:
        return 0
    found = int(math.log(seconds) * _FACTOR + _SHIFT + 1e-9)  # The last is for rounding at a bin's lower end.
    return found if found < LAST_BIN else LAST_BIN


def lower_end(number: int) -> float:
    """Return the shortest duration of a bin, in seconds."""
    return SHORTEST * 2 ** ((number - 1) / BINS_PER_DOUBLING) if number > 0 else 0.0


def upper_end(number: int) -> float:
    """Return where a bin ends, in seconds."""
    return lower_end(number + 1)


def add(total: Histogram, more: Mapping[int, int] | Iterable[tuple[int, int]]) -> None:
    """Add `more` to `total`."""
    for number, count in more.items() if isinstance(more, Mapping) else more:
        total[number] = total.get(number, 0) + count


def quantile(histogram: Mapping[int, int], part: float) -> float | None:
    """
    Return the duration, in seconds, below which `part` of what was measured lies; None if nothing was.

    It is the middle of its bin, by the factor.

    >>> round(quantile({40: 95, 60: 5}, 0.5), 2), quantile({}, 0.5)
    (0.94, None)
    """
    total = sum(histogram.values())
    if not total:
        return None
    wanted = max(math.ceil(total * part), 1)
    seen = 0
    for number in sorted(histogram):
        seen += histogram[number]
        if seen >= wanted:
            break
    return math.sqrt(lower_end(number) * upper_end(number)) if number else SHORTEST / 2


def part_below(histogram: Mapping[int, int], seconds: float) -> float | None:
    """
    Return which part of what was measured took less than this, by whole bins; None if nothing was.

    >>> part_below({10: 3, 60: 1}, 5.0)
    0.75
    """
    total = sum(histogram.values())
    if not total:
        return None
    return sum(count for number, count in histogram.items() if upper_end(number) <= seconds) / total
