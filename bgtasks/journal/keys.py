"""
Keys: at most one live task has each key. The unique column `live_key` ensures this, not a look before the write.

The task that has a key is looked up only after an insert was refused.
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

TRIES = 5  # Between a refusal and the look, the task that has the key may end, and another one may take the key.


class KeyContended(OperationalError):
    """The key changed hands at each try: nothing is wrong with the record, and a later try may succeed."""


def insert_keyed(
    statements: Statements, cursor: CursorWrapper, record: Record, row: Row, by: str, ended: list[Verdict]
) -> UUID | None:
    """
    Insert the row of a task with a key, in the open transaction.

    Args:
        by: the process that inserts it.
        ended: a list for the verdicts of the tasks that it replaces.

    Returns:
        None if it was inserted, else the id of the task that has the key. Its own id means that it was inserted before
        and the answer was lost, even if another task has the key by now.

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
    """Free the key if its holder may lose it; return whether it is free."""
    assert record.extras is not None  # As above.
    if free_key(alias, holder):
        return True
    if record.extras.on_conflict != "replace" or holder.process is not None:
        return False
    # A holder that is claimed right now goes on, and the new task is not fired. If it has ended, the key may be free.
    why = f"replaced by {record.id}, which has its key"
    outcome = transitions.cancel(alias, holder.id, by, why, may_ask=False, ended=ended)
    return outcome in (Cancellation.DONE, Cancellation.TOO_LATE)
