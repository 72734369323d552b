"""
Fire-and-forget background tasks for async Django that cannot be silently lost.

The import is safe before Django's app registry is ready: functions look up the registry only when they are called.
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
