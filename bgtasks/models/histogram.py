"""
Histograms of durations. They are small for any number of durations, and can be added.

The bins grow by a constant factor, as in DDSketch (Masson, Rim and Lee, VLDB 2019). So the relative error of a quantile
is bounded: here by 9 %.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

Histogram = dict[int, int]  # {bin: count}.

SHORTEST = 0.001  # Seconds. Bin 0 holds all shorter durations.
BINS_PER_DOUBLING = 4
LAST_BIN = 120  # It begins at 10 days (SHORTEST times 2^29.75) and holds all longer durations.

_FACTOR = BINS_PER_DOUBLING / math.log(2)
_SHIFT = 1 - math.log(SHORTEST) * _FACTOR


def bin_of(seconds: float) -> int:
    """
    Return the bin of a duration in seconds.

    >>> bin_of(0), bin_of(0.0009), bin_of(0.001), bin_of(1), bin_of(1e9)
    (0, 0, 1, 40, 120)
    """
    if seconds < SHORTEST:
        return 0
    found = int(math.log(seconds) * _FACTOR + _SHIFT + 1e-9)  # 1e-9 corrects rounding at the lower end of a bin.
    return found if found < LAST_BIN else LAST_BIN


def lower_end(number: int) -> float:
    """Return the lower end of a bin, which belongs to it, in seconds."""
    return SHORTEST * 2 ** ((number - 1) / BINS_PER_DOUBLING) if number > 0 else 0.0


def upper_end(number: int) -> float:
    """Return the upper end of a bin, which belongs to the next one, in seconds."""
    return lower_end(number + 1)


def add(total: Histogram, more: Mapping[int, int] | Iterable[tuple[int, int]]) -> None:
    """Add the counts of a histogram, or of its items, to `total`."""
    for number, count in more.items() if isinstance(more, Mapping) else more:
        total[number] = total.get(number, 0) + count


def quantile(histogram: Mapping[int, int], part: float) -> float | None:
    """
    Return the duration in seconds below which a part of the durations lies; None for an empty histogram.

    It is the geometric mean of the ends of its bin.

    Args:
        part: from 0 to 1.

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
    Return the part of the durations below a limit, counted in whole bins; None for an empty histogram.

    >>> part_below({10: 3, 60: 1}, 5.0)
    0.75
    """
    total = sum(histogram.values())
    if not total:
        return None
    return sum(count for number, count in histogram.items() if upper_end(number) <= seconds) / total
