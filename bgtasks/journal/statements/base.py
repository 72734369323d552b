"""The statements for all databases. A subclass has the differences of one database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.db import InterfaceError, InternalError, OperationalError, connections, transaction
from django.db.backends.utils import CursorWrapper

from ...models import BackgroundTask, Process
from ..loop_turn import LoopTurn
from .claim import MAX_PARAMETERS, ClaimStatements, placeholders
from .errors import Disowned, is_missing_table
from .rows import FENCE, FULL, PLAIN, UNCHANGED_BY_NULL, Row, Shape, number_of

LONGEST_LOCK_WAIT = 2  # Seconds.


class Statements(ClaimStatements):
    """The statements in the form that suits most databases, for one database and one process."""

    def __init__(self, alias: str, process_id: UUID, release: str, origin: UUID | None, loop_turn: LoopTurn) -> None:
        super().__init__(alias, process_id, release, origin)
        quote = self.connection.ops.quote_name
        self.loop_turn = loop_turn
        self._table = table_text(alias)
        self._count = (
            f"UPDATE {quote(Process._meta.db_table)} "  # noqa: S608
            "SET fired_count = fired_count + %s WHERE id = %s AND state <> 'DEAD'"
        )

    def prepare(self) -> None:
        """Set up a new connection: its waits for locks end well before other processes would declare this one dead."""

    def begin(self, cursor: CursorWrapper) -> None:
        """Set up a new transaction, where the set-up of a connection does not last, as behind a pooler."""

    @contextmanager
    def transaction(self) -> Iterator[CursorWrapper]:
        """Open a transaction whose waits for locks are bounded, and yield its cursor."""
        with transaction.atomic(using=self.alias), self.connection.cursor() as cursor:
            self.begin(cursor)
            yield cursor

    def is_outage(self, error: Exception) -> bool:
        """Return whether the database refuses everything now (away, locked, full), and not just this record."""
        # PostgreSQL raises InternalError when a transaction cannot write at all (a replica, a timeout).
        return isinstance(error, OperationalError | InterfaceError | InternalError) or is_missing_table(error)

    def insert(self, cursor: CursorWrapper, rows: Sequence[Row], shape: Shape = PLAIN) -> int:
        """Insert rows; return how many were new. A row that exists was inserted before, and the answer was lost."""
        cursor.executemany(f"{insert_text(self.alias, shape)} ON CONFLICT (id) DO NOTHING", rows)
        return int(cursor.rowcount)

    def insert_keyed(self, cursor: CursorWrapper, row: Row) -> bool:
        """Insert the row of a task with a key; return False if another task has the key, or if the row exists."""
        cursor.execute(f"{insert_text(self.alias, FULL)} ON CONFLICT DO NOTHING", row)
        return bool(cursor.rowcount)

    @contextmanager
    def hasty(self, cursor: CursorWrapper) -> Iterator[None]:
        """
        Wait only briefly for locks, in the open transaction, until the end of the block.

        A transaction of the project that fires with a key locks that key until its commit.
        """
        yield  # SQLite has one writer at a time: inside a transaction no other connection has a lock.

    def is_lock_wait(self, error: Exception) -> bool:
        """Return whether a wait for a lock was too long. The transaction goes on from the last savepoint."""
        return False

    def update(self, cursor: CursorWrapper, rows: Sequence[Row], shape: Shape = PLAIN) -> int:
        """Update the rows that are still as this process left them; return how many were."""
        cursor.executemany(update_text(self.alias, shape), rows)
        return int(cursor.rowcount)

    def begin_together(self, inserts: Sequence[Row], updates: Sequence[Row]) -> bool:
        """
        Insert, count and update plain rows with as few messages as the database allows, and leave the transaction open.

        Returns:
            Whether all of it was done, so that `commit` must follow. If not, no transaction is open, and the rows are
            to be written by the other methods.

        Raises:
            Disowned: as `count_fired`.
        """
        return False

    def commit(self) -> None:
        """Commit the transaction of `begin_together`."""
        with self.connection.wrap_database_errors:
            self.connection.connection.commit()

    def count_fired(self, cursor: CursorWrapper, count: int) -> None:
        """
        Count fired tasks in the row of their origin, in the transaction of their first write.

        Raises:
            Disowned: the origin was declared dead, or its row is missing. Its tasks would be rescued at once.
        """
        cursor.execute(self._count, [count, self._origin])
        if not cursor.rowcount:
            raise Disowned

    def note_places(self, cursor: CursorWrapper, rows: Sequence[Row]) -> None:
        """Write where running tasks await, from rows of (place as JSON, number, attempt)."""
        cursor.executemany(
            f"UPDATE {self._table} SET await_place = %s "  # noqa: S608  # Our own names.
            "WHERE id = %s AND attempt = %s AND process = %s AND status = 'RUNNING'",
            [(place, f"{number:032x}", attempt, self._process) for place, number, attempt in rows],
        )

    def find_cancels(self) -> list[int]:
        """Return the numbers of running tasks of this process whose cancellation is requested."""
        with self.connection.cursor() as cursor:
            cursor.execute(
                f"SELECT id FROM {self._table} {self.by_cancels} "  # noqa: S608  # Our own names.
                "WHERE process = %s AND status = 'RUNNING' AND cancel_requested_at IS NOT NULL",
                [self._process],
            )
            return [number_of(row[0]) for row in cursor.fetchall()]

    def adopt(self, cursor: CursorWrapper, process: UUID) -> None:
        """Take over the live rows of a former id of this process. Rows that have a verdict are left alone."""
        for status in ("RUNNING", "READY"):
            cursor.execute(
                f"UPDATE {self._table} SET process = %s "  # noqa: S608  # Our own names.
                f"WHERE process = %s AND status = '{status}'",
                [self._process, process.hex],
            )

    by_cancels = ""  # A hint to take the index of requested cancellations, instead of reading all running rows.

    def read_back(self, cursor: CursorWrapper, numbers: Sequence[int]) -> dict[int, tuple[str, int, str | None]]:
        """Return (status, attempt, process) of the rows that exist, by number."""
        found: dict[int, tuple[str, int, str | None]] = {}
        for start in range(0, len(numbers), MAX_PARAMETERS):
            part = numbers[start : start + MAX_PARAMETERS]
            cursor.execute(
                f"SELECT id, status, attempt, process FROM {self._table} "  # noqa: S608  # Our own names.
                f"WHERE id IN ({placeholders(part)})",
                [f"{number:032x}" for number in part],
            )
            found |= {number_of(row[0]): (row[1], row[2], _hex(row[3])) for row in cursor.fetchall()}
        return found

    def is_ours(self, process: str | None) -> bool:
        return process == self._process


def _hex(value: Any) -> str | None:
    return value if value is None else f"{number_of(value):032x}"


# The texts of statements, made once.


@lru_cache
def insert_text(alias: str, shape: Shape) -> str:
    """Return the INSERT of one row of a shape, with a parameter for each of its columns."""
    values = ", ".join(["%s"] * len(shape.inserted) + [repr(value) for value in shape.constants.values()])
    return f"INSERT INTO {table_text(alias)} ({names_text(alias, shape)}) VALUES ({values})"  # noqa: S608  # Our own names.


@lru_cache
def update_text(alias: str, shape: Shape) -> str:
    """Return the fenced UPDATE of one row of a shape, with a parameter for each changed column and the fence."""
    quote = connections[alias].ops.quote_name
    changes = ", ".join(change_text(alias, name, "%s") for name in shape.changed)
    fence = " AND ".join(f"{quote(name)} = %s" for name in FENCE)
    return f"UPDATE {table_text(alias)} SET {changes} WHERE {fence}"  # noqa: S608  # Our own names.


def change_text(alias: str, name: str, value: str) -> str:
    """Return the assignment of an expression to a column."""
    column = connections[alias].ops.quote_name(name)
    if name in UNCHANGED_BY_NULL:
        return f"{column} = COALESCE({value}, {table_text(alias)}.{column})"
    return f"{column} = {value}"


def names_text(alias: str, shape: Shape) -> str:
    quote = connections[alias].ops.quote_name
    return ", ".join(quote(name) for name in (*shape.inserted, *shape.constants))


def table_text(alias: str) -> str:
    return str(connections[alias].ops.quote_name(BackgroundTask._meta.db_table))
