"""
The outbox: tasks that sync code fires inside `transaction.atomic()`.

The row of a task function is written in the caller's own transaction, on its connection. So it is committed or rolled
back together with the caller's data. It waits as READY: any process can claim it after the commit, even if this one
dies at that moment.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from django.db import connections, router, transaction

from ..conf import Settings
from ..exceptions import KeyConflict, RolledBack
from ..journal.announcer import announce
from ..journal.journal import Journal
from ..journal.keys import insert_keyed
from ..journal.statements import shape_of, statements_for
from ..models import BackgroundTask
from ..process.record import Record
from ..process.registry import Registry
from ..process.state import ProcessState
from ..transitions import Verdict
from .backlog import Backlog


def find_transaction(record: Record, settings: Settings) -> str | None:
    """Return the alias of a database with an open transaction in this thread, if the record is to be fired with it."""
    fire_on_commit = record.task.fire_on_commit if record.task is not None else None
    if fire_on_commit is None:
        fire_on_commit = settings.fire_on_commit
    return _find_open_transaction() if fire_on_commit else None


def _find_open_transaction() -> str | None:
    """Return the alias of a database with an open transaction in this thread; that of the rows, if it has one."""
    own = router.db_for_write(BackgroundTask)
    found = [connection.alias for connection in connections.all(initialized_only=True) if connection.in_atomic_block]
    return own if own in found else next(iter(found), None)


class Outbox:
    """Fires at the commit of the caller's transaction."""

    def __init__(
        self,
        settings: Settings,
        state: ProcessState,
        registry: Registry,
        journal: Journal,
        backlog: Backlog,
        admit: Callable[[Record], None],
    ) -> None:
        """
        Args:
            admit: admits a record after the commit.
        """
        self._settings = settings
        self._state = state
        self._registry = registry
        self._journal = journal
        self._backlog = backlog
        self._admit = admit

    def fire(self, record: Record, alias: str) -> None:
        """
        Write the record in the open transaction on `alias`. Where that is impossible, admit it after the commit.

        It is impossible for a coroutine object, which cannot be started from a row, and on another database than that
        of the rows. Then the task is lost if the process dies between the commit and the write that follows.
        """
        if record.task is not None and alias == router.db_for_write(BackgroundTask):
            if self._write(record, alias):
                transaction.on_commit(AtCommit(record, self._hand_over), using=alias, robust=True)
        else:
            transaction.on_commit(AtCommit(record, self._admit), using=alias, robust=True)

    def _write(self, record: Record, alias: str) -> bool:
        """Write the row; return False if another task has its key."""
        record.forget_coroutine()
        process_id = self._state.id
        statements = statements_for(alias, process_id, self._settings.release)
        row = statements.insert_row(record, record.history, record.extras, is_counted=False)
        with connections[alias].cursor() as cursor:
            if record.extras is None or not record.extras.key:
                statements.insert(cursor, [row], shape_of(record))
                return True
            replaced: list[Verdict] = []
            holder = insert_keyed(statements, cursor, record, row, str(process_id), replaced)
        if replaced:
            # Not a `partial`: Django logs the name of a callback that raises, and a partial has none.
            transaction.on_commit(lambda: self._announce_replaced(replaced), using=alias, robust=True)
        if holder is not None:
            record.refuse(KeyConflict(record.extras.key, holder))
        return holder is None

    def _announce_replaced(self, replaced: list[Verdict]) -> None:
        self._journal.submit(partial(self._journal.after_commit.announce_verdicts, replaced))

    def _hand_over(self, record: Record) -> None:
        record.written = (record.history[0][0], 0)
        self._registry.handed_over[record.number] = record
        self._backlog.expect(record)
        self._journal.submit(lambda: announce(record, record.history[:1], self._state.id))


class AtCommit:
    """
    The callback of a transaction for one record.

    Django reports no rollback, neither of a transaction nor of a savepoint: it drops the callbacks. So a callback that
    is deleted without a call belongs to a transaction that was rolled back.
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
