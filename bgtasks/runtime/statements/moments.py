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


@lru_cache(100)  # Most moments of a batch are of the same few seconds.
def split_second(seconds: int) -> tuple[str, str]:
    """Return a whole second since the epoch as the texts of its day and time in UTC."""
    text = datetime.fromtimestamp(seconds, UTC).isoformat()
    return text[:10], text[11:19]
