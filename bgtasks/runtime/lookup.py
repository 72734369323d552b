"""The lookup of a task by its id, wherever it runs or has run."""

from __future__ import annotations

from contextvars import Context
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import router

from ..exceptions import TaskNotFound
from ..models import BackgroundTask
from ..process.record import NO_LOOP, Record
from ..process.registry import Registry
from ..status import Status


def find(registry: Registry, task_id: UUID) -> Record:
    """
    Return the record of a task of this process, or a new one made from its row.

    Raises:
        TaskNotFound: no task has the id.
    """
    record = registry.find(task_id.int)
    return record if record is not None else _read(registry, task_id)


async def afind(registry: Registry, task_id: UUID) -> Record:
    """Do the work of `find` without blocking the event loop."""
    record = registry.find(task_id.int)
    return record if record is not None else await sync_to_async(_read)(registry, task_id)


def _read(registry: Registry, task_id: UUID) -> Record:
    row = BackgroundTask.objects.using(router.db_for_write(BackgroundTask)).filter(pk=task_id).first()
    if row is None:
        raise TaskNotFound(task_id)
    task = registry.functions.get(row.name) if row.is_task_function else None
    moment = (row.finished_at or row.started_at or row.created_at).timestamp()
    entry = (Status(row.status), moment, row.attempt, "found in its row")
    record = Record(task_id.int, row.name, task, (), {}, NO_LOOP, Context(), entry)
    record.is_queued = False
    record.written = (entry[0], entry[2])
    record.value = row.result
    record.reason = f"{row.error_type}: {row.error_message}" if row.error_type else ""
    if record.is_live:
        registry.handed_over[record.number] = record  # If this process claims the row, it uses this record.
    return record
