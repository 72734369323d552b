"""The exceptions of bgtasks."""

from __future__ import annotations

import math
import time
from datetime import datetime, timedelta
from uuid import UUID

from .retry_after import parse_retry_after


class BgTasksError(Exception):
    """The base of all exceptions of bgtasks."""


class Draining(BgTasksError):
    """This process is draining, and the task could not be recorded for a start by another process."""


class Overloaded(BgTasksError):
    """Too many tasks wait, in the queue or for their row to be written. This one was neither stored nor started."""

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after  # Seconds to wait before firing again.


class NotRecorded(BgTasksError):
    """The task was certainly neither stored nor started."""


class RecordUnknown(BgTasksError):
    """The row was sent to the database, but the commit was not confirmed. Look up the id later."""

    def __init__(self, task_id: UUID) -> None:
        super().__init__(f"It is not known whether task {task_id} was recorded; look it up before firing it again.")
        self.id = task_id


class RolledBack(BgTasksError):
    """The task was fired in a transaction that was rolled back, so it does not exist."""


class KeyConflict(BgTasksError):
    """Another task has the key. This one was not fired: it was neither stored nor started."""

    def __init__(self, key: str, task_id: UUID) -> None:
        super().__init__(f"The key {key!r} is taken by task {task_id}: this one was not fired.")
        self.key = key
        self.id = task_id  # The id of the task that has the key.


class TaskUnsuccessful(BgTasksError):
    """The base of the exceptions that `await handle` raises for a task that did not succeed."""

    def __init__(self, message: str, task_id: UUID) -> None:
        super().__init__(message)
        self.id = task_id


class TaskFailed(TaskUnsuccessful):
    """
    The task raised an exception.

    The exception is the `__cause__` if the task ran in this process and has no sensitive arguments.
    """


class TaskCancelled(TaskUnsuccessful):
    """The task was cancelled on request."""


class TaskInterrupted(TaskUnsuccessful):
    """The task was cut short by a drain, or by the end of its event loop."""


class TaskLost(TaskUnsuccessful):
    """The process of the task died."""


class TaskNotFound(BgTasksError, LookupError):
    """No row has this id: it was pruned, deleted, or never recorded."""

    def __init__(self, task_id: UUID) -> None:
        super().__init__(f"There is no task {task_id}: it was pruned or deleted, or it was never recorded.")
        self.id = task_id


class Retry(BgTasksError):
    """
    The request of a task function for another attempt: `raise bgtasks.Retry(after=30) from error`.

    The current attempt counts towards `max_attempts`. If it was the last one, the task ends as FAILED.

    Args:
        after: the wait before the next attempt, at most ten years: seconds, a timedelta, an aware datetime, or the text
            of a `Retry-After` header (seconds or an HTTP date). None: the wait of the option `backoff`, or that of the
            `Retry-After` of the exception's cause if it is longer.

    Raises:
        TypeError, ValueError: `after` is none of these.
    """

    def __init__(self, after: float | timedelta | datetime | str | None = None) -> None:
        self.after = after
        self.seconds()  # Raises here for a wrong value, in the code that passed it.
        super().__init__("to be tried again" if after is None else f"to be tried again, after {after}")

    def seconds(self) -> float | None:
        """Return the seconds from now; None if the option `backoff` decides."""
        after = self.after
        if after is None:
            return None
        if isinstance(after, str):
            return parse_retry_after(after)
        if isinstance(after, datetime):
            if after.utcoffset() is None:
                raise ValueError(f"Retry(after={after!r}) has no time zone: give an aware datetime, or a timedelta.")
            return max(after.timestamp() - time.time(), 0.0)
        if isinstance(after, timedelta):
            after = after.total_seconds()
        if isinstance(after, bool) or not isinstance(after, int | float):
            raise TypeError(f"Retry(after=…) takes seconds, a timedelta, a datetime or a header's text, not {after!r}.")
        if not 0 <= after < math.inf:
            raise ValueError(f"Retry(after={after!r:.120}) is not a number of seconds from now.")
        return after
