"""MariaDB: an UPDATE has no RETURNING, and errors are recognised by their codes, not by their classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from django.db import IntegrityError, transaction
from django.db.backends.utils import CursorWrapper

from .base import LONGEST_LOCK_WAIT, Statements, insert_text
from .claim import Wanted, placeholders
from .rows import FULL, PLAIN, Row, Shape, number_of


class MariaDBStatements(Statements):
    append_transition = "JSON_ARRAY_APPEND(transitions, '$', JSON_INSERT(%s, '$.attempt', attempt + 1))"
    claim_lock = "FOR UPDATE SKIP LOCKED"

    def prepare(self) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute(
                f"SET SESSION innodb_lock_wait_timeout = {LONGEST_LOCK_WAIT}, lock_wait_timeout = {LONGEST_LOCK_WAIT}"
            )

    def is_outage(self, error: Exception) -> bool:
        # The client raises OperationalError for some refused values, too: 1366, a character that the column's character
        # set does not have; 4025, a CHECK, such as that of a JSON column.
        return super().is_outage(error) and error.args[:1] not in ((1366,), (4025,))

    def insert(self, cursor: CursorWrapper, rows: Sequence[Row], shape: Shape = PLAIN) -> int:
        # INSERT IGNORE would also ignore values that do not fit, and ON DUPLICATE KEY counts rows that it leaves alone.
        try:
            with transaction.atomic(using=self.alias):
                cursor.executemany(insert_text(self.alias, shape), rows)
        except IntegrityError as error:
            if error.args[:1] != (1062,):
                raise
            there = self.read_back(cursor, [int(row[0], 16) for row in rows])
            rows = [row for row in rows if int(row[0], 16) not in there]
            if rows:
                cursor.executemany(insert_text(self.alias, shape), rows)
        return len(rows)

    def insert_keyed(self, cursor: CursorWrapper, row: Row) -> bool:
        try:
            cursor.execute(insert_text(self.alias, FULL), row)
        except IntegrityError as error:
            if error.args[:1] != (1062,):
                raise
            return False
        return True

    @contextmanager
    def hasty(self, cursor: CursorWrapper) -> Iterator[None]:
        cursor.execute("SET SESSION innodb_lock_wait_timeout = 0")
        try:
            yield
        finally:
            cursor.execute(f"SET SESSION innodb_lock_wait_timeout = {LONGEST_LOCK_WAIT}")

    def is_lock_wait(self, error: Exception) -> bool:
        return error.args[:1] == (1205,)

    def now(self, cursor: CursorWrapper) -> float:
        cursor.execute("SELECT UNIX_TIMESTAMP(NOW(6))")
        return float(cursor.fetchone()[0])

    def claim(self, cursor: CursorWrapper, wanted: Wanted, count: int, at: float) -> list[Row]:
        # The selected rows stay locked until the commit.
        moment = self.moment(at)
        cursor.execute(self._select_ready(wanted), [*wanted.values, moment, count])
        ids = [row[0] for row in cursor.fetchall()]
        if not ids:
            return []
        marks = placeholders(ids)
        cursor.execute(
            f"UPDATE {self._table} SET {self._claim_changes} WHERE id IN ({marks})",  # noqa: S608
            [self._claim_entry(at), self._process, moment, *ids],
        )
        cursor.execute(f"SELECT {self._claimed} FROM {self._table} WHERE id IN ({marks})", ids)  # noqa: S608
        return [(number_of(row[0]), *row[1:]) for row in cursor.fetchall()]
