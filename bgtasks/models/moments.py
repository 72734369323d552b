"""Moments: seconds since the epoch, the datetimes of columns, and the ISO texts in histories and places."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, overload

from django.conf import settings
from django.utils import timezone
from django.utils.dateparse import parse_datetime


def read_place(stored: Any, started_at: datetime | None) -> dict[str, Any] | None:
    """Return the place {file, line, function, since} of this attempt; an earlier one may have left its own."""
    if not isinstance(stored, dict) or started_at is None:
        return None
    since = parse_moment(stored.get("since"))
    return stored if since is not None and since >= started_at else None


def parse_moment(value: object) -> datetime | None:
    """Read a moment of ISO 8601 out of JSON, UTC without an offset: local, and naive where the database's are."""
    try:
        moment = parse_datetime(value) if isinstance(value, str) else None
        if moment is None:
            return None
        moment = moment if timezone.is_aware(moment) else moment.replace(tzinfo=UTC)
        local = timezone.localtime(moment)  # The years 1 and 9999 have no local time everywhere.
    except (ValueError, OverflowError):
        return None
    return local if settings.USE_TZ else timezone.make_naive(local)


@overload
def to_datetime(seconds: float) -> datetime: ...


@overload
def to_datetime(seconds: None) -> None: ...


def to_datetime(seconds: float | None) -> datetime | None:
    """Return a moment in seconds since the epoch as the project's settings have moments: aware, or naive local time."""
    if seconds is None:
        return None
    value = datetime.fromtimestamp(seconds, UTC)
    return value if settings.USE_TZ else timezone.make_naive(value, timezone.get_default_timezone())


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
