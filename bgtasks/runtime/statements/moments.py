"""Moments: seconds since the epoch as what databases take and histories hold."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import overload

from django.conf import settings as django_settings
from django.utils import timezone


@overload
def to_datetime(seconds: float) -> datetime: ...


@overload
def to_datetime(seconds: None) -> None: ...


def to_datetime(seconds: float | None) -> datetime | None:
    """Return a moment in seconds since the epoch as the project's settings have moments: aware, or naive local time."""
    if seconds is None:
        return None
    value = datetime.fromtimestamp(seconds, UTC)
    return value if django_settings.USE_TZ else timezone.make_naive(value, timezone.get_default_timezone())


def stamp(seconds: float) -> str:
    """
    Return a moment in seconds since the epoch as ISO text in UTC, with microseconds and without its zone.

    >>> stamp(0.25)
    '1970-01-01T00:00:00.250000'
    """
    # A third of the time of `datetime.isoformat`: the text of a whole second is made once.
    whole = int(seconds)
    micros = int((seconds - whole) * 1_000_000 + 1_000_000.5)
    return f"{_second(whole)}.{str(micros)[1:] if micros < 2_000_000 else '999999'}"


@lru_cache(100)  # Most moments of a batch are of the same few seconds.
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]
