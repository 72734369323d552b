"""Finds a task by its id, wherever it runs or has run."""

from __future__ import annotations

from contextvars import Context
from typing import TYPE_CHECKING, Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import router

from ..exceptions import TaskNotFound
from ..models import BackgroundTask
from ..process.record import Record
from ..status import Status

if TYPE_CHECKING:
    from .runner import Runner  # For the type only: the runner imports this module.

_NO_LOOP: Any = None  # One that this process does not run has none.


def find(runner: Runner, task_id: UUID) -> Record:
    """
    Return the record of a task of this process, or a new one of how its row is now.

    Raises:
        TaskNotFound: there is no such task.
    """
    record = _find_here(runner, task_id)
    return record if record is not None else _read(runner, task_id)


async def afind(runner: Runner, task_id: UUID) -> Record:
    """Do as `find`, without keeping the loop."""
    record = _find_here(runner, task_id)
    # In a thread of its own: the caller's may be in a transaction that shows the past.
    return record if record is not None else await sync_to_async(_read)(runner, task_id)


def _find_here(runner: Runner, task_id: UUID) -> Record | None:
    registry = runner.registry
    return registry.live.get(task_id.int) or registry.handed_over.get(task_id.int)


def _read(runner: Runner, task_id: UUID) -> Record:
    row = BackgroundTask.objects.using(router.db_for_write(BackgroundTask)).filter(pk=task_id).first()
    if row is None:
        raise TaskNotFound(task_id)
    task = runner.registry.functions.get(row.name) if row.is_task_function else None
    moment = (row.finished_at or row.started_at or row.created_at).timestamp()
    entry = (Status(row.status), moment, row.attempt, "found in its row")
    record = Record(task_id.int, row.name, task, (), {}, _NO_LOOP, Context(), entry)
    record.is_queued = False
    record.written = (entry[0], entry[2])
    record.value = row.result
    record.reason = f"{row.error_type}: {row.error_message}" if row.error_type else ""
    if record.is_live:
        runner.registry.handed_over[record.number] = record  # Should this process come to run it, it is this one.
    return record
