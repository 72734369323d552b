"""
Keys: at most one live task has each, by the unique column `live_key` and never by a look that comes before the write.

Who has the key is asked only after an insert was refused.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import IntegrityError
from django.db.backends.utils import CursorWrapper
from django.utils import timezone

from .. import transitions
from ..models import BackgroundTask
from ..status import FINISHED
from .record import Record
from .statements import Row, Statements

TRIES = 5  # Who has the key may let go of it between the refusal and the look, and another may take it.


def insert_keyed(statements: Statements, cursor: CursorWrapper, record: Record, row: Row, by: str) -> UUID | None:
    """
    Insert the row of a task with a key, in the open transaction.

    Args:
        by: the process that inserts it.

    Returns:
        None: it was inserted. Else the task that has the key: its own id, if it was inserted before and the answer to
        that got lost.

    Raises:
        IntegrityError: the key changed hands at each try.
    """
    extras = record.extras
    assert extras is not None  # The key is one of them.
    for _ in range(TRIES):
        if statements.insert_keyed(cursor, row):
            return None
        holder = _find_holder(statements.alias, extras.key)
        if holder is None:
            if BackgroundTask.objects.using(statements.alias).filter(pk=record.id).exists():
                return record.id  # It has ended since.
        elif holder["id"] == record.id or not _take_from(statements.alias, holder, record, by):
            return UUID(str(holder["id"]))
    raise IntegrityError(f"The key {extras.key!r} changed hands {TRIES} times.")


def _find_holder(alias: str, key: str) -> dict[str, Any] | None:
    # Without a lock: in a transaction of the project's it would keep the journal from that row until the commit.
    rows = BackgroundTask.objects.using(alias).filter(live_key=key)
    found = rows.values("id", "status", "process", "finished_at", "unique_for").first()
    return dict(found) if found is not None else None


def _take_from(alias: str, holder: dict[str, Any], record: Record, by: str) -> bool:
    """Free the key, if who has it may lose it; tell whether it is free."""
    assert record.extras is not None  # As above.
    if holder["status"] in FINISHED:
        freed_at = holder["finished_at"] + timedelta(seconds=holder["unique_for"] or 0.0)
        if freed_at > timezone.now():
            return False
        BackgroundTask.objects.using(alias).filter(pk=holder["id"], status=holder["status"]).update(live_key=None)
        return True
    if record.extras.on_conflict != "replace" or holder["process"] is not None:
        return False
    return bool(transitions.cancel(alias, holder["id"], by, f"replaced by {record.id}, which has its key"))
