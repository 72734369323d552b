"""Advice from measured durations: whether DRAIN_TIMEOUT is long enough for what runs when a process stops."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..conf import Settings
from ..definition import declared
from ..models import histogram
from ..models.histogram import BINS_PER_DOUBLING, Histogram
from .rollups import Total

LEAST_MEASURED = 20  # Of fewer durations nothing is concluded.
STEPS = ((20.0, 1), (100.0, 5), (1000.0, 10), (math.inf, 60))  # Up to so many seconds advice is rounded up to this.


@dataclass(frozen=True)
class TooLong:
    """A function whose tasks may not end within DRAIN_TIMEOUT."""

    name: str
    p95: float  # Seconds.
    measured: int
    reruns: bool  # What is cut short runs again.


@dataclass(frozen=True)
class DrainAdvice:
    timeout: float  # Seconds: DRAIN_TIMEOUT as it is.
    covered_part: float  # Of the tasks, those that took less.
    cut_part: float  # Of the tasks that run at any moment, those that would be cut short if the process stopped then.
    measured: int
    too_long: Sequence[TooLong]  # Those with a p95 of more than the timeout, the longest first.
    least_timeout: int | None  # Seconds that cover the p95 of all of them.
    least_patience: int | None  # Seconds that the platform then has to wait before it kills.


def advise(totals: Mapping[str, Total], settings: Settings) -> DrainAdvice | None:
    """Return advice from what came of the tasks of each name in the last 7 days; None if too little was measured."""
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
    Return which part of the tasks that run at any moment does not end within `timeout` from then.

    A long task is the likelier to be met the longer it runs (Feller, An Introduction to Probability Theory, vol. 2,
    section I.4): of a task that takes 30 s, 10 s are such that 20 s are not enough.

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
    """Return where the bin ends whose middle this is: a quantile may be anywhere in its bin."""
    return middle * 2 ** (0.5 / BINS_PER_DOUBLING)


def _round_up(seconds: float) -> int:
    """
    Return the next number of seconds that one would write down.

    >>> [_round_up(seconds) for seconds in (3.2, 21, 140.1, 1801)]
    [4, 25, 150, 1860]
    """
    step = next(step for longest, step in STEPS if seconds <= longest)
    return math.ceil(seconds / step) * step
