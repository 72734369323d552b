"""Every error that bgtasks raises on purpose."""

from __future__ import annotations

from uuid import UUID


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


class TaskUnsuccessful(BgTasksError):
    """The base of what `await handle` raises for a task that did not return."""

    def __init__(self, message: str, task_id: UUID) -> None:
        super().__init__(message)
        self.id = task_id


class TaskFailed(TaskUnsuccessful):
    """The task raised. Its exception is the `__cause__` where it ran in this process."""


class TaskCancelled(TaskUnsuccessful):
    """The task was cancelled because somebody asked for it."""


class TaskInterrupted(TaskUnsuccessful):
    """The task was cut short by a drain."""


class TaskLost(TaskUnsuccessful):
    """The process that ran the task died."""
