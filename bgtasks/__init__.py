"""
Fire-and-forget background tasks for async Django that cannot be silently lost.

Safe to import before the app registry is ready: what needs it is looked up when it is called.
"""

from __future__ import annotations

from .api import afire, aget, drain, fire, get, live_tasks, pending_task_count
from .definition import task
from .exceptions import (
    BgTasksError,
    Draining,
    KeyConflict,
    NotRecorded,
    Overloaded,
    RecordUnknown,
    Retry,
    RolledBack,
    TaskCancelled,
    TaskFailed,
    TaskInterrupted,
    TaskLost,
    TaskNotFound,
)
from .runtime.context import current
from .runtime.handle import TaskHandle
from .status import Status

__all__ = [
    "BgTasksError",
    "Draining",
    "KeyConflict",
    "NotRecorded",
    "Overloaded",
    "RecordUnknown",
    "Retry",
    "RolledBack",
    "Status",
    "TaskCancelled",
    "TaskFailed",
    "TaskHandle",
    "TaskInterrupted",
    "TaskLost",
    "TaskNotFound",
    "afire",
    "aget",
    "current",
    "drain",
    "fire",
    "get",
    "live_tasks",
    "pending_task_count",
    "task",
]
