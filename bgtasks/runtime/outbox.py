"""
The outbox: what sync code fires inside `transaction.atomic()`.

A task function's row is written in the caller's own transaction, on its connection: there with the caller's data, or
rolled back with it. It waits as READY, so after the commit any process claims it, even if this one dies right then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from django.db import connections, router, transaction

from ..exceptions import KeyConflict, RolledBack
from ..journal.announcer import announce
from ..journal.keys import insert_keyed
from ..journal.statements import shape_of, statements_for
from ..models import BackgroundTask
from ..process.record import Record
from ..transitions import Verdict

if TYPE_CHECKING:
    from .runner import Runner  # For the type only: the runner imports this module.


def find_transaction() -> str | None:
    """Return the alias of a database with an open transaction in this thread, the rows' own if it has one."""
    own = router.db_for_write(BackgroundTask)
    found = [connection.alias for connection in connections.all(initialized_only=True) if connection.in_atomic_block]
    return own if own in found else next(iter(found), None)


class Outbox:
    """Fires for a runner at the commit of the caller's transaction."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def fire(self, record: Record, alias: str) -> None:
        """
        Write the record in the open transaction on `alias`, or, where that is impossible, fire it at its commit.

        Impossible for a coroutine object, which no row can start, and on a database that does not hold the rows: then
        a process that dies between the commit and the write that follows forgets the task.
        """
        if record.task is not None and alias == router.db_for_write(BackgroundTask):
            if not self._write(record, alias):
                return
            at_commit = self._hand_over
        else:
            at_commit = self._runner.admit
        transaction.on_commit(AtCommit(record, at_commit), using=alias, robust=True)

    def _write(self, record: Record, alias: str) -> bool:
        """Tell whether it was written: its key may be taken."""
        record.forget_coroutine()
        runner = self._runner
        process_id = runner.journal.process_id
        statements = statements_for(alias, process_id, runner.settings.release)
        row = statements.insert_row(record, record.history, record.extras, is_counted=False)
        with connections[alias].cursor() as cursor:
            if record.extras is None or not record.extras.key:
                statements.insert(cursor, [row], shape_of(record))
                return True
            replaced: list[Verdict] = []
            holder = insert_keyed(statements, cursor, record, row, str(process_id), replaced)
        if replaced:
            transaction.on_commit(lambda: runner.journal.tell_soon(replaced), using=alias, robust=True)
        if holder is not None:
            record.refuse(KeyConflict(record.extras.key, holder))
        return holder is None

    def _hand_over(self, record: Record) -> None:
        runner = self._runner
        record.written = (record.history[0][0], 0)
        runner.registry.handed_over[record.number] = record
        runner.expect(record)
        runner.journal.submit(lambda: announce(record, record.history[:1], runner.journal.process_id))


class AtCommit:
    """
    What Django calls after the commit.

    Django tells nobody of a rollback, of a savepoint's either: it drops the callbacks. One that goes away uncalled is
    how this learns of it.
    """

    def __init__(self, record: Record, act: Callable[[Record], None]) -> None:
        self._record: Record | None = record
        self._act = act

    def __call__(self) -> None:
        record, self._record = self._record, None
        if record is not None:
            self._act(record)

    def __del__(self) -> None:
        if self._record is not None:
            self._record.refuse(RolledBack(f"{self._record.name} was fired in a transaction that was rolled back."))
