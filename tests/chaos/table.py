"""Reads the rows as evidence, with Django's ORM; it writes none."""

from __future__ import annotations

from django.db.models import Q

from bgtasks.models import BackgroundTask, Process
from bgtasks.status import FINISHED, LIVE

from . import evidence

_COLUMNS = (
    "id", "name", "args", "status", "on_lost", "attempt", "max_attempts", "finished_at", "error_type", "transitions",
)  # fmt: skip


def read_rows() -> dict[str, evidence.Row]:
    return {row.id: row for row in map(_make_row, BackgroundTask.objects.order_by("id").values_list(*_COLUMNS))}


def _make_row(values: tuple) -> evidence.Row:  # type: ignore[type-arg]  # As the ORM returns them.
    id_, name, args, status, on_lost, attempt, max_attempts, finished_at, error_type, transitions = values
    tag = str(args[0]) if args else ""
    finished = finished_at.isoformat() if finished_at else ""
    return evidence.Row(str(id_), name, tag, status, on_lost, attempt, max_attempts, finished, error_type, transitions)


def read_processes() -> list[evidence.Process]:
    return [
        evidence.Process(str(row.id), row.pid, row.state, row.stopped_at.timestamp() if row.stopped_at else None)
        for row in Process.objects.order_by("id")
    ]


def read_finals(known: set[str]) -> dict[str, evidence.Final]:
    """Return the final states of finished rows that are not known yet."""
    rows = BackgroundTask.objects.filter(status__in=FINISHED).order_by()
    found = rows.values_list("id", "status", "attempt", "finished_at")
    return {str(row[0]): (row[1], row[2], row[3].isoformat()) for row in found if str(row[0]) not in known}


def count_live() -> int:
    return BackgroundTask.objects.filter(Q(status__in=LIVE)).count()
