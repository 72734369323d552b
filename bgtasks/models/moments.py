"""
Moments in their three forms: seconds since the epoch, the datetimes of columns, and the texts in JSON.

The texts are those of histories, places and progress. They are in UTC in each project; `stamp` and `stamp_now` write
all of them, and `parse_moment` reads them. Columns have aware datetimes, or with USE_TZ=False naive ones in TIME_ZONE.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, overload

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.utils import timezone
from django.utils.dateparse import parse_datetime


def read_place(stored: Any, started_at: datetime | None) -> dict[str, Any] | None:
    """Return the place {file, line, function, since} of this attempt; None for one that an earlier attempt left."""
    if not isinstance(stored, dict) or started_at is None:
        return None
    since = parse_moment(stored.get("since"))
    return stored if since is not None and since >= started_at else None


def parse_moment(value: object) -> datetime | None:
    """
    Read an ISO 8601 text out of JSON; return its moment as columns have it. None: it is not a moment.

    A text without an offset is in UTC. With USE_TZ=False it is local time, as earlier versions wrote it for verdicts.
    """
    try:
        moment = parse_datetime(value) if isinstance(value, str) else None
        if moment is None:
            return None
        if timezone.is_naive(moment):
            moment = moment.replace(tzinfo=UTC if settings.USE_TZ else timezone.get_default_timezone())
        # With USE_TZ too, since the years 1 and 9999 do not have a local time everywhere.
        return timezone.localtime(moment) if settings.USE_TZ else _make_naive(moment)
    except (ValueError, OverflowError):
        return None


@overload
def to_datetime(seconds: float) -> datetime: ...


@overload
def to_datetime(seconds: None) -> None: ...


def to_datetime(seconds: float | None) -> datetime | None:
    """Return a moment in seconds since the epoch as columns have it."""
    if seconds is None:
        return None
    value = datetime.fromtimestamp(seconds, UTC)
    return value if settings.USE_TZ else _make_naive(value)


def to_utc(moment: datetime) -> datetime:
    """Return a column's datetime as an aware one in UTC."""
    if timezone.is_naive(moment):
        moment = moment.replace(tzinfo=timezone.get_default_timezone())
    return moment.astimezone(UTC)


class MomentEncoder(DjangoJSONEncoder):
    """Writes documents for other programs, with all moments in UTC."""

    def default(self, value: Any) -> Any:
        return super().default(to_utc(value) if isinstance(value, datetime) else value)


def _make_naive(moment: datetime) -> datetime:
    # Not in the current time zone, which a request may have activated: Django's columns do not know it.
    return timezone.make_naive(moment, timezone.get_default_timezone())


def stamp(seconds: float) -> str:
    """
    Return a moment in seconds since the epoch as ISO 8601 text in UTC, with microseconds.

    >>> stamp(0.25)
    '1970-01-01T00:00:00.250000+00:00'
    """
    # A third of the time of `datetime.isoformat`: the text of a whole second is made once.
    whole = int(seconds)
    micros = int((seconds - whole) * 1_000_000 + 1_000_000.5)
    return f"{_second(whole)}.{str(micros)[1:] if micros < 2_000_000 else '999999'}+00:00"


def stamp_now() -> str:
    """Return the present moment as `stamp` does."""
    return stamp(time.time())


@lru_cache(100)  # Most moments of a batch are of the same few seconds.
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]
