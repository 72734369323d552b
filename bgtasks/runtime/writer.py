"""The writer: brings a batch of records into the table, each fenced against what others made of its row meanwhile."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from uuid import UUID

from django.db.backends.utils import CursorWrapper

from .. import transitions
from ..failure import Failure, storable
from ..log import log
from ..status import Status
from .record import Entry, Record
from .statements import Disowned, Row, Statements

REFUSED_RETRY = 0.5  # Seconds until a record that the database refuses is tried again, times the refusals so far.


class Batch:
    """What one transaction writes: a picture of each record's history, taken once."""

    def __init__(self, records: list[Record], statements: Statements) -> None:
        self.changes: dict[int, tuple[Record, tuple[Entry, ...]]] = {}
        self.inserts: list[Row] = []
        self.updates: list[Row] = []
        self.unchanged: list[int] = []
        self.again: dict[int, tuple[Status, int]] = {}
        for record in records:
            entries = tuple(record.history)
            if record.written is None:
                self.inserts.append(statements.insert_row(record, entries))
            elif record.written != (entries[-1][0], entries[-1][2]):
                self.updates.append(statements.update_row(record, entries))
            else:
                self.unchanged.append(record.number)
                continue
            self.changes[record.number] = (record, entries)


class Writer:
    """Writes on the journal's thread, with the journal's connection."""

    def __init__(self, statements: Statements, process_id: UUID, on_written: Callable[[Batch], None]) -> None:
        """
        Args:
            on_written: is told of each batch after its commit.
        """
        self._statements = statements
        self._process_id = process_id
        self._on_written = on_written

    def write(self, records: list[Record]) -> None:
        """
        Write a batch; halve it when something in it is refused, until the one record that is refused stands alone.

        Raises:
            Exception: what `Statements.is_outage` calls an outage; nothing of the batch is written then.
            Disowned: this process was declared dead; nothing of the batch is written either.
        """
        is_committing = False
        try:
            batch = Batch(records, self._statements)
            if self._statements.begin_together(batch.inserts, batch.updates):
                is_committing = True
                self._statements.commit()
            else:
                with self._statements.transaction() as cursor:
                    self._send(cursor, batch)
                    is_committing = True
        except Disowned:
            self._give_back(records)
            raise
        except Exception as error:
            if self._statements.is_outage(error):
                if not is_committing:
                    self._give_back(records)
                raise
            if len(records) == 1:
                self._write_without_contents(records[0], error)
            else:
                middle = len(records) // 2
                self.write(records[:middle])
                self.write(records[middle:])
        else:
            self._on_written(batch)

    def _send(self, cursor: CursorWrapper, batch: Batch) -> None:
        statements = self._statements
        inserted = statements.insert(cursor, batch.inserts) if batch.inserts else 0
        updated = statements.update(cursor, batch.updates) if batch.updates else 0
        if inserted:
            statements.count_fired(cursor, inserted)
        if inserted < len(batch.inserts) or updated < len(batch.updates):
            self._reconcile(batch, statements.read_back(cursor, list(batch.changes)))

    def _reconcile(self, batch: Batch, rows: dict[int, tuple[str, int, str | None]]) -> None:
        """Sort out what did not match: a write of ours whose answer was lost, or a verdict that came first."""
        for number, (record, entries) in batch.changes.items():
            target, _, attempt, why = entries[-1]
            if number not in rows:
                if record.written is not None:
                    log(logging.WARNING, "Task %s (%s) was deleted while it was live.", record.name, record.id)
                continue
            status, row_attempt, process = rows[number]
            if (status, row_attempt) == (target.value, attempt):
                continue
            state = (Status(status), row_attempt)
            is_a_former_one = any(state == (former, former_attempt) for former, _, former_attempt, _ in entries)
            if self._statements.is_ours(process) and is_a_former_one:
                # It was committed, and the answer was lost: the record needs an update of that one. (Another attempt of
                # ours is none of its own: given back by a verdict, the row may have been claimed here again.)
                batch.again[number] = state
                continue
            transitions.note_late(
                self._statements.alias, record.id, str(self._process_id), f"came too late: {target.value}, {why}"
            )
            log(
                logging.WARNING,
                "Task %s (%s) ended as %s, but its row already said %s: the row stands.",
                record.name,
                record.id,
                target.value,
                status,
            )

    @staticmethod
    def _give_back(records: list[Record]) -> None:
        """These are surely not committed: whoever waits in `afire` may withdraw them again."""
        for record in records:
            if record.acknowledgement is not None and record.is_sent:
                record.is_sent = False
                record.give_back()

    def _write_without_contents(self, record: Record, error: Exception) -> None:
        """
        Write a record that the database refuses: after a while once more as it is, then without its contents.

        A READY task function is FAILED then, for nobody can run it without its arguments.
        """
        record.refusals += 1
        log(logging.ERROR, "Task %s (%s) cannot be recorded as it is: %s", record.name, record.id, error)
        if record.refusals > 1:
            try:
                self._strip(record, error)
                batch = Batch([record], self._statements)
                with self._statements.transaction() as cursor:
                    self._send(cursor, batch)
            except Exception as second:
                if isinstance(second, Disowned) or self._statements.is_outage(second):
                    raise
                log(logging.ERROR, "Task %s (%s) cannot be recorded at all yet: %s", record.name, record.id, second)
            else:
                self._on_written(batch)
                return
        record.write_at = time.monotonic() + REFUSED_RETRY * record.refusals

    @staticmethod
    def _strip(record: Record, error: Exception) -> None:
        why = storable(f"its contents could not be recorded: {type(error).__name__}: {error}")[:500]
        if record.written is None:
            record.encoded = ("null", "null")  # Not [] and {}, which would be a task without arguments.
            record.is_stripped = True
        record.name = storable(record.name)
        record.result_text = None
        record.scope = None
        if record.failure is not None:
            record.failure = Failure("Exception", why, "", record.failure.fingerprint)
        last = len(record.history) - 1  # Its loop may append one meanwhile.
        status, at, attempt, _ = record.history[last]
        if status is Status.READY and record.is_stripped and record.task is not None:
            record.failure = Failure(type(error).__name__, why, "", "")
            record.history.append((Status.FAILED, time.time(), attempt, why))
            record.wake_waiters()
        else:
            record.history[last] = (status, at, attempt, why)
