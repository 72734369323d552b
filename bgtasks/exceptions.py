"""Every error that bgtasks raises on purpose."""

from __future__ import annotations

import math
import time
from datetime import datetime, timedelta
from uuid import UUID

from .retry_after import parse_retry_after


class BgTasksError(Exception):
    """The base of all errors below."""


class Draining(BgTasksError):
    """This process is draining and the task could not be recorded for another process to start."""


class Overloaded(BgTasksError):
    """Too much is waiting to be written; nothing was stored, nothing was started."""

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after  # Seconds after which another try makes sense.


class NotRecorded(BgTasksError):
    """The task is surely not stored and not started."""


class RecordUnknown(BgTasksError):
    """The write was sent, but whether it was committed is not known: look the id up later."""

    def __init__(self, task_id: UUID) -> None:
        super().__init__(f"It is not known whether task {task_id} was recorded; look it up before firing it again.")
        self.id = task_id


class RolledBack(BgTasksError):
    """The task was fired in a transaction that was rolled back; it never existed."""


class KeyConflict(BgTasksError):
    """Another task has the key; this one was not fired: not stored, not started."""

    def __init__(self, key: str, task_id: UUID) -> None:
        super().__init__(f"The key {key!r} is taken by task {task_id}: this one was not fired.")
        self.key = key
        self.id = task_id  # Of the task that has the key.


class TaskUnsuccessful(BgTasksError):
    """The base of what `await handle` raises for a task that did not return."""

    def __init__(self, message: str, task_id: UUID) -> None:
        super().__init__(message)
        self.id = task_id


class TaskFailed(TaskUnsuccessful):
    """The task raised. Its exception is the `__cause__` where it ran in this process and has no sensitive arguments."""


class TaskCancelled(TaskUnsuccessful):
    """The task was cancelled because somebody asked for it."""


class TaskInterrupted(TaskUnsuccessful):
    """The task was cut short by a drain."""


class TaskLost(TaskUnsuccessful):
    """The process that ran the task died."""


class TaskNotFound(BgTasksError, LookupError):
    """No row has this id: it was pruned, deleted, or never recorded."""

    def __init__(self, task_id: UUID) -> None:
        super().__init__(f"There is no task {task_id}: it was pruned or deleted, or it was never recorded.")
        self.id = task_id


class Retry(BgTasksError):
    """
    Raise it in a task function to have it tried again: `raise bgtasks.Retry(after=30) from error`.

    It counts as an attempt, within `max_attempts`; without any left the task is FAILED.

    Args:
        after: when: seconds, a timedelta, an aware datetime, or what a server sent as `Retry-After` (seconds or a date
            of HTTP); at most ten years. None: as the task's `backoff` says, and not before the `Retry-After` of the
            error that it is raised from.

    Raises:
        TypeError, ValueError: for an `after` that is none of these.
    """

    def __init__(self, after: float | timedelta | datetime | str | None = None) -> None:
        self.after = after
        self.seconds()  # What is wrong is told where it is raised.
        super().__init__("to be tried again" if after is None else f"to be tried again, after {after}")

    def seconds(self) -> float | None:
        """Return the seconds from now. None: as the task's `backoff` says."""
        after = self.after
        if after is None:
            return None
        if isinstance(after, str):
            return parse_retry_after(after)
        if isinstance(after, datetime):
            if after.utcoffset() is None:
                raise ValueError(f"Retry(after={after!r}) has no time zone: give an aware moment, or a timedelta.")
            return max(after.timestamp() - time.time(), 0.0)
        if isinstance(after, timedelta):
            after = after.total_seconds()
        if isinstance(after, bool) or not isinstance(after, int | float):
            raise TypeError(f"Retry(after=…) is seconds, a timedelta, a datetime or a header's text, not {after!r}.")
        if not 0 <= after < math.inf:
            raise ValueError(f"Retry(after={after!r:.120}) is no number of seconds from now.")
        return after
