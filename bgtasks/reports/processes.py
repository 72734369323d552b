"""Facts about a process that several reports show."""

from __future__ import annotations

from datetime import datetime

from ..models import Process


def process_name(process: Process | None) -> str:
    """Return the server, host and number of a process; empty for a process without a row."""
    return f"{process.server} {process.host}:{process.pid}".strip() if process is not None else ""


def blocked_for(process: Process | None, now: datetime) -> float | None:
    """Return the seconds for which the event loop of a process has not answered; None if it answers."""
    if process is None or process.blocked_since is None:
        return None
    return seconds_since(process.blocked_since, now)


def seconds_since(moment: datetime, now: datetime) -> float:
    """Return the seconds from a moment to `now`; 0 if it lies ahead, since the clocks of two machines may differ."""
    return max((now - moment).total_seconds(), 0.0)
