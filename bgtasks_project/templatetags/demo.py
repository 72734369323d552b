"""Template filters of the demo."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from django import template
from django.utils import timezone

register = template.Library()


@register.filter
def brief(length: timedelta | None) -> str:
    """
    Write a duration with two units at most.

    >>> [brief(timedelta(seconds=seconds)) for seconds in (0.0042, 0.25, 1.26, 75, 7300)]
    ['4.2 ms', '250 ms', '1.3 s', '1 min 15 s', '2 h 1 min']
    """
    if length is None:
        return ""
    seconds = max(0.0, length.total_seconds())
    if seconds < 1:
        return f"{seconds * 1000:.{1 if seconds < 0.01 else 0}f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"


@register.filter
def last_part(name: str) -> str:
    """
    Return the last part of a dotted name.

    >>> last_part("bgtasks_project.tasks.deliver")
    'deliver'
    """
    return name.rpartition(".")[2]


@register.filter
def age(task_id: UUID) -> timedelta:
    """Return the time since a task was fired."""
    return timezone.now() - fired_at(task_id)


def fired_at(task_id: UUID) -> datetime:
    """
    Return the moment when a task was fired: a UUIDv7 begins with it, in milliseconds.

    >>> fired_at(UUID("019a0000-0000-7000-8000-000000000000")).isoformat()
    '2025-10-20T05:03:11.360000+00:00'
    """
    return datetime.fromtimestamp((task_id.int >> 80) / 1000, tz=UTC)
