"""Advice on DRAIN_TIMEOUT: whether it is long enough for the measured durations of the tasks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..conf import Settings
from ..definition import declared
from ..models import histogram
from ..models.histogram import BINS_PER_DOUBLING, Histogram
from .rollups import Total

LEAST_MEASURED = 20  # Fewer durations do not support any advice.
STEPS = (
    (20.0, 1),
    (100.0, 5),
    (1000.0, 10),
    (math.inf, 60),
)  # (Up to so many seconds, round up to a multiple of this.)


@dataclass(frozen=True)
class TooLong:
    """A function whose tasks may not end within DRAIN_TIMEOUT."""

    name: str
    p95: float  # Seconds.
    measured: int
    reruns: bool  # A task that is cut short runs again.


@dataclass(frozen=True)
class DrainAdvice:
    timeout: float  # Seconds: the current DRAIN_TIMEOUT.
    covered_part: float  # The part of the tasks that took less.
    cut_part: float  # The part of the tasks running at any moment that a drain from then on would cut short.
    measured: int
    too_long: Sequence[TooLong]  # With a p95 above the timeout, the longest first.
    least_timeout: int | None  # Seconds that cover the p95 of all these.
    least_patience: int | None  # Seconds for which the platform then has to wait before it kills the process.


def advise(totals: Mapping[str, Total], settings: Settings) -> DrainAdvice | None:
    """Return advice from the totals of the last 7 days by name; None if too few durations were measured."""
    took: Histogram = {}
    for total in totals.values():
        histogram.add(took, total.took)
    measured = sum(took.values())
    if measured < LEAST_MEASURED:
        return None
    timeout = settings.drain_timeout
    too_long = sorted(_find_too_long(totals, timeout), key=lambda each: each.p95, reverse=True)
    least = _round_up(_upper_end(too_long[0].p95)) if too_long else None
    return DrainAdvice(
        timeout,
        histogram.part_below(took, timeout) or 0.0,
        find_cut_part(took, timeout),
        measured,
        too_long,
        least,
        math.ceil(least + settings.ending_seconds) if least is not None else None,
    )


def find_cut_part(took: Mapping[int, int], timeout: float) -> float:
    """
    Return the part of the tasks running at any moment that does not end within `timeout` from then.

    The longer a task runs, the more likely it is running at a given moment (Feller, An Introduction to Probability
    Theory, vol. 2, section I.4). A task of 30 s does not end within 20 s if the moment lies in its first 10 s.

    >>> round(find_cut_part({histogram.bin_of(30): 1}, 20.0), 1), find_cut_part({10: 5}, 20.0), find_cut_part({}, 1)
    (0.3, 0.0, 0.0)
    """
    lengths = [(_middle(number), count) for number, count in took.items()]
    whole = sum(length * count for length, count in lengths)
    return sum(max(length - timeout, 0.0) * count for length, count in lengths) / whole if whole else 0.0


def _find_too_long(totals: Mapping[str, Total], timeout: float) -> Iterable[TooLong]:
    for name, total in totals.items():
        if total.measured < LEAST_MEASURED:
            continue
        p95 = histogram.quantile(total.took, 0.95)
        if p95 is not None and p95 > timeout:
            function = declared.get(name)
            reruns = function is not None and function.options.on_lost == "rerun"
            yield TooLong(name, p95, total.measured, reruns)


def _middle(number: int) -> float:
    return histogram.quantile({number: 1}, 1.0) or 0.0


def _upper_end(middle: float) -> float:
    """Return the upper end of the bin with this middle, since the true quantile may lie anywhere in the bin."""
    return middle * 2 ** (0.5 / BINS_PER_DOUBLING)


def _round_up(seconds: float) -> int:
    """
    Round up to a number of seconds as people would choose it for a setting.

    >>> [_round_up(seconds) for seconds in (3.2, 21, 140.1, 1801)]
    [4, 25, 150, 1860]
    """
    step = next(step for longest, step in STEPS if seconds <= longest)
    return math.ceil(seconds / step) * step
