"""Where a task awaits, as its row says it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.utils import timezone
from django.utils.dateparse import parse_datetime


def read_place(stored: Any, started_at: datetime | None) -> dict[str, Any] | None:
    """Return the place {file, line, function, since} of this attempt; an earlier one may have left its own."""
    if not isinstance(stored, dict) or started_at is None:
        return None
    since = parse_moment(stored.get("since"), like=started_at)
    return stored if since is not None and since >= started_at else None


def parse_moment(text: object, like: datetime) -> datetime | None:
    """Read a moment of ISO 8601 out of JSON, UTC without an offset; aware or naive as the database's moments are."""
    try:
        moment = parse_datetime(text) if isinstance(text, str) else None
    except ValueError:
        return None
    if moment is None:
        return None
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return moment if like.tzinfo is not None else timezone.make_naive(moment, timezone.get_default_timezone())
