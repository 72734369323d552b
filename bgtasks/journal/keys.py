"""
Keys: at most one live task has each, by the unique column `live_key` and never by a look that comes before the write.

Who has the key is asked only after an insert was refused.
"""

from __future__ import annotations

from uuid import UUID

from django.db import OperationalError
from django.db.backends.utils import CursorWrapper

from .. import transitions
from ..models import BackgroundTask
from ..process.record import Record
from ..transitions import Cancellation, KeyHolder, Verdict, find_key_holder, free_key
from .statements import Row, Statements

TRIES = 5  # Who has the key may let go of it between the refusal and the look, and another may take it.


class KeyContended(OperationalError):
    """The key changed hands at each try: nothing is wrong with the record, and a later try may succeed."""


def insert_keyed(
    statements: Statements, cursor: CursorWrapper, record: Record, row: Row, by: str, ended: list[Verdict]
) -> UUID | None:
    """
    Insert the row of a task with a key, in the open transaction.

    Args:
        by: the process that inserts it.
        ended: takes what it has replaced.

    Returns:
        None: it was inserted. Else the task that has the key: its own id, if it was inserted before and the answer to
        that got lost, whoever has the key by now.

    Raises:
        KeyContended: the key changed hands at each try.
    """
    extras = record.extras
    assert extras is not None  # The key is one of them.
    for _ in range(TRIES):
        if statements.insert_keyed(cursor, row):
            return None
        if BackgroundTask.objects.using(statements.alias).filter(pk=record.id).exists():
            return record.id
        holder = find_key_holder(statements.alias, extras.key)
        if holder is not None and not _take_from(statements.alias, holder, record, by, ended):
            return holder.id
    raise KeyContended(f"The key {extras.key!r} changed hands {TRIES} times.")


def _take_from(alias: str, holder: KeyHolder, record: Record, by: str, ended: list[Verdict]) -> bool:
    """Free the key, if who has it may lose it; tell whether it is free."""
    assert record.extras is not None  # As above.
    if free_key(alias, holder):
        return True
    if record.extras.on_conflict != "replace" or holder.process is not None:
        return False
    # One that is claimed right now is left alone: it runs, and this one is not fired. One that has ended is looked at
    # again.
    why = f"replaced by {record.id}, which has its key"
    outcome = transitions.cancel(alias, holder.id, by, why, may_ask=False, ended=ended)
    return outcome in (Cancellation.DONE, Cancellation.TOO_LATE)
