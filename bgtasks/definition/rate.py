"""Rates: how many tasks may start in any period of a given length."""

from __future__ import annotations

import re
from dataclasses import dataclass

_RATE = re.compile(r"(\d+)/(\d+(?:\.\d+)?)?\s*(s|m|h|d)")
LONGEST_PERIOD = 30 * 86400.0  # Seconds.
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class Rate:
    count: int  # Starts in any period.
    seconds: float  # The length of the period.


def parse_rate(text: str) -> Rate:
    """
    Return the rate of a text such as "5/s", "100/m", "1000/h", "1/d" or "10/30s".

    Raises:
        ValueError: the text is not a rate, or its period is longer than 30 days. The message follows the option's name.

    >>> parse_rate("10/30s")
    Rate(count=10, seconds=30.0)
    """
    found = _RATE.fullmatch(text.strip())
    rate = Rate(int(found[1]), float(found[2] or 1) * _SECONDS[found[3]]) if found is not None else None
    if rate is None or rate.count < 1 or not 0 < rate.seconds <= LONGEST_PERIOD:
        raise ValueError(
            f'must be a number and a period of up to 30 days, such as "5/s", "100/m" or "10/30s", not {text!r:.100}'
        )
    return rate
