"""Where a task awaits, as its row says it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

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
