"""Extras: values that only some tasks have, such as a queue, a moment to start at, progress, a checkpoint."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from ..definition import Task
from ..definition.options import Conflict

Progress = tuple[float, float | None, str, float]  # (done, total, note, moment in seconds since the epoch)


class Extras:
    """
    The values of the columns that most tasks do not use.

    A record without them is written with fewer columns, see `statements/rows.py`.
    """

    __slots__ = (
        "checkpoint", "is_progress_due", "key", "on_conflict", "options", "priority", "progress_written_at", "queue",
        "rate_key", "run_after", "told", "unique_for", "version", "written_version",
    )  # fmt: skip

    def __init__(self) -> None:
        self.queue = "default"
        self.priority = 0
        self.key = ""
        self.unique_for: float | None = None  # Seconds.
        self.rate_key = ""
        self.on_conflict: Conflict = "existing"
        self.options: str | None = None  # JSON.
        self.run_after: float | None = None  # Seconds since the epoch.
        self.told: Progress | None = None  # The last progress that the task has reported.
        self.checkpoint: str | None = None  # JSON.
        self.version = 0  # Counts changes of these values that come without a change of the status.
        self.written_version = 0  # The version in the row.
        self.is_progress_due = False  # Whether new progress is on its way to the journal.
        self.progress_written_at = 0.0  # On the monotonic clock.

    @classmethod
    def of(cls, task: Task[..., Any] | None, now: float) -> Extras:
        """Return the extras of a task that is fired at `now`, in seconds since the epoch, by its options."""
        extras = cls()
        if task is not None:
            options = task.options
            extras.queue = options.queue
            extras.priority = options.priority
            extras.key = options.key or ""
            extras.unique_for = options.unique_for
            extras.rate_key = options.rate_key
            extras.on_conflict = options.on_conflict
            extras.options = json.dumps(task.overrides) if task.overrides else None
            extras.run_after = _moment_of(options.run_after, now)
        return extras

    def as_dict(self) -> dict[str, Any]:
        """Return the values for `from_dict`."""
        return {name: getattr(self, name) for name in _SPOOLED}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Extras:
        extras = cls()
        for name in _SPOOLED:
            setattr(extras, name, values[name])
        extras.version = 1  # The row may have none of these values yet.
        return extras


_SPOOLED = (
    "queue", "priority", "key", "unique_for", "on_conflict", "rate_key", "options", "run_after", "told", "checkpoint",
)  # fmt: skip


def _moment_of(run_after: datetime | timedelta | None, now: float) -> float | None:
    """Return a future moment in seconds since the epoch, None if it is past already."""
    if run_after is None:
        return None
    moment = run_after.timestamp() if isinstance(run_after, datetime) else now + run_after.total_seconds()
    return moment if moment > now else None
