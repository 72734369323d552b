"""The tasks of the last minute, as lanes show them: on the overview, and on the page of a process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from ...status import Status
from ...uuid7 import lowest_uuid7
from ..pictures.swimlanes import Bar, Lane, Shown
from ..shared.formats import duration, printable

SECONDS = 60.0
LONGEST_LOOKED_FOR = timedelta(minutes=10)  # What was fired before, and ended within the minute, is not drawn.
FIELDS = ("id", "name", "status", "process", "started_at", "finished_at", "stuck_after")


def ended_since(rows: Any, since: datetime) -> Any:
    """Narrow `rows` to what ended since then, by ids: no index knows the ends."""
    milliseconds = max(int((since - LONGEST_LOOKED_FOR).timestamp() * 1000), 0)
    return rows.filter(pk__gte=lowest_uuid7(milliseconds * 1_000_000), finished_at__gte=since).order_by("-id")


def show(row: Mapping[str, Any], url_of: Callable[[UUID], str], default: float | None) -> Shown:
    """
    Return a row of FIELDS that has started, as its lane shows it.

    Args:
        default: the setting STUCK_AFTER.
    """
    threshold = row["stuck_after"] if row["stuck_after"] is not None else default
    url = url_of(row["id"])
    return Shown(row["id"], row["name"], row["status"], row["started_at"], row["finished_at"], threshold, url)


def describe_lane(lane: Lane, text: str, now: datetime) -> dict[str, Any]:
    """Return a lane for the template, with `text` for who cannot see it."""
    return {"lane": lane, "text": text, "bars": [{"bar": bar, "text": _bar_text(bar, now)} for bar in lane.bars]}


def _bar_text(bar: Bar, now: datetime) -> str:
    took = duration((bar.task.finished_at or now) - bar.task.started_at)
    return f"{printable(bar.task.name)} · {Status(bar.task.status).label} · {took}"
