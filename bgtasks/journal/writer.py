"""The writer: writes a batch of records to the table, each fenced against changes of its row by other processes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from uuid import UUID

from django.db import OperationalError, transaction
from django.db.backends.utils import CursorWrapper

from .. import transitions
from ..failure import Failure, storable
from ..log import log
from ..process.record import Entry, Record
from ..status import Status
from ..transitions import Verdict
from .keys import KeyContended, insert_keyed
from .statements import FULL, PLAIN, Disowned, Row, Statements

OFFER_AFTER = 8  # Rows made between two offers to the event loop, see `LoopTurn`.
REFUSED_RETRY = 0.5  # Seconds until the next try with a record that the database refuses, for each refusal so far.
PUT_OFF = 0.1  # Seconds until the next try with a record whose key another transaction uses.


class Batch:
    """The content of one transaction, and its results. The history of each record is read once, when it is made."""

    def __init__(self, records: list[Record], statements: Statements) -> None:
        self.changes: dict[int, tuple[Record, tuple[Entry, ...]]] = {}
        self.inserts: list[Row] = []
        self.updates: list[Row] = []
        self.full_inserts: list[Row] = []  # Of records with extras.
        self.full_updates: list[Row] = []
        self.keyed: list[tuple[Record, Row]] = []  # Inserts of records with a key.
        self.conflicts: dict[int, tuple[Record, UUID]] = {}  # Not inserted, with the task that has the key.
        self.replaced: list[Verdict] = []  # Of tasks that were cancelled since a keyed record replaces them.
        self.late: set[int] = set()  # Tasks that other processes have ended before, or whose rows were deleted.
        self.versions: dict[int, int] = {}  # Of the extras that are written.
        self.unchanged: list[int] = []  # Tasks whose rows are up to date already.
        self.again: dict[int, tuple[Status, int]] = {}  # Tasks with an earlier state in the row, to be updated next.
        for index, record in enumerate(records):
            if not index % OFFER_AFTER:
                statements.loop_turn.offer()
            entries = tuple(record.history)
            extras = record.extras
            if extras is not None:
                self.versions[record.number] = extras.version
            if record.written is None:
                row = statements.insert_row(record, entries, extras)
                if extras is None:
                    self.inserts.append(row)
                elif not extras.key:
                    self.full_inserts.append(row)
                else:
                    self.keyed.append((record, row))
            elif record.written != (entries[-1][0], entries[-1][2]) or (
                extras is not None and extras.written_version != extras.version
            ):
                updates = self.updates if extras is None else self.full_updates
                updates.append(statements.update_row(record, entries, extras))
            else:
                self.unchanged.append(record.number)
                continue
            self.changes[record.number] = (record, entries)

    def find_committed(self) -> list[tuple[Record, tuple[Entry, ...]]]:
        """Return the changes that are in the rows now."""
        left_out = self.late | self.again.keys()
        return [change for number, change in self.changes.items() if number not in left_out]


class Writer:
    """Writes on the journal's thread, with the journal's connection."""

    def __init__(self, statements: Statements, process_id: UUID, on_written: Callable[[Batch], None]) -> None:
        """
        Args:
            on_written: is called with each batch after its commit.
        """
        self._statements = statements
        self._process_id = process_id
        self._on_written = on_written

    def write(self, records: list[Record]) -> None:
        """
        Write a batch. If the database refuses it, write its halves, until the refused record is alone.

        Raises:
            Exception: an outage, see `Statements.is_outage`. The records are to be written again: they were not
                committed, or the answer to the COMMIT was lost.
            Disowned: this process was declared dead. The records are to be written again under its next id.
        """
        is_committing = False
        try:
            batch = Batch(records, self._statements)
            is_plain = not (batch.full_inserts or batch.full_updates or batch.keyed)
            if is_plain and self._statements.begin_together(batch.inserts, batch.updates):
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
                if is_committing:
                    for record in records:
                        record.may_be_stored = True
                else:
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
        inserted = updated = 0
        for shape, inserts, updates in (
            (PLAIN, batch.inserts, batch.updates),
            (FULL, batch.full_inserts, batch.full_updates),
        ):
            inserted += statements.insert(cursor, inserts, shape) if inserts else 0
            updated += statements.update(cursor, updates, shape) if updates else 0
        if batch.keyed:
            with statements.hasty(cursor):
                inserted += self._send_keyed(cursor, batch)
        if inserted:
            statements.count_fired(cursor, inserted)
        if inserted + updated < len(batch.changes):
            self._reconcile(batch, statements.read_back(cursor, list(batch.changes)))

    def _send_keyed(self, cursor: CursorWrapper, batch: Batch) -> int:
        """
        Insert the records with a key; return how many were inserted.

        If another transaction uses a key, its record and those after it are put off: they would hold up the batch.
        """
        statements = self._statements
        inserted = 0
        for position, (record, row) in enumerate(batch.keyed):
            replaced: list[Verdict] = []
            try:
                with transaction.atomic(using=statements.alias):
                    holder = insert_keyed(statements, cursor, record, row, str(self._process_id), replaced)
            except OperationalError as error:
                if not (isinstance(error, KeyContended) or statements.is_lock_wait(error)):
                    raise
                put_off = [left for left, _ in batch.keyed[position:]]
                record.write_at = time.monotonic() + PUT_OFF
                record.is_put_off = True
                self._give_back(put_off)
                for left in put_off:
                    del batch.changes[left.number]
                break
            batch.replaced += replaced
            if holder is None:
                inserted += 1
            elif holder != record.id:
                batch.conflicts[record.number] = (record, holder)
                del batch.changes[record.number]
        return inserted

    def _reconcile(self, batch: Batch, rows: dict[int, tuple[str, int, str | None]]) -> None:
        """Find out why rows were not written: the answer to an earlier write was lost, or a verdict came first."""
        for number, (record, entries) in batch.changes.items():
            target, _, attempt, why = entries[-1]
            if number not in rows:
                batch.late.add(number)
                if record.written is not None:
                    log(logging.WARNING, "Task %s (%s) was deleted while it was live.", record.name, record.id)
                continue
            status, row_attempt, process = rows[number]
            if (status, row_attempt) == (target.value, attempt):
                continue
            state = (Status(status), row_attempt)
            is_earlier = any(state == (former, former_attempt) for former, _, former_attempt, _ in entries)
            if self._statements.is_ours(process) and is_earlier:
                # An earlier state was committed and the answer lost, so the row needs an update. (A row of this process
                # may also belong to another record: given back by a verdict, and claimed here for another attempt.)
                batch.again[number] = state
                continue
            batch.late.add(number)
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
        """Let callers of `afire` withdraw records that this batch did not commit, unless an earlier one may have."""
        for record in records:
            if record.is_recorded_first and record.is_sent and not record.may_be_stored:
                record.is_sent = False
                record.give_back()

    def _write_without_contents(self, record: Record, error: Exception) -> None:
        """
        Handle a record that the database refuses: the first time try again later, then write it without its contents.

        A READY task function becomes FAILED then, since it cannot run without its arguments.
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
