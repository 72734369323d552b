"""SQLite: many rows in each statement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from itertools import chain

from django.db import connections
from django.db.backends.utils import CursorWrapper

from .base import LONGEST_LOCK_WAIT, Statements, change_text, insert_text, table_text
from .rows import FENCE, FULL, PLAIN, Row, Shape

# Rows in one statement. The sizes are few, so that the driver finds each statement prepared, and so close together that
# two or three of them add up to any number: between two statements a busy event loop keeps the interpreter for 5 ms.
BLOCKS = (128, 96, 64, 48, 32, 24, 16, 12, 8, 6, 4, 3, 2, 1)


class SQLiteStatements(Statements):
    by_cancels = 'INDEXED BY "bgtasks_cancel"'  # Without statistics SQLite would take another index.
    append_transition = "json_insert(transitions, '$[#]', json_set(%s, '$.attempt', attempt + 1))"

    def insert(self, cursor: CursorWrapper, rows: Sequence[Row], shape: Shape = PLAIN) -> int:
        return self._write_in_blocks(insert_block, shape, rows)

    def update(self, cursor: CursorWrapper, rows: Sequence[Row], shape: Shape = PLAIN) -> int:
        return self._write_in_blocks(update_block, shape, rows)

    def _write_in_blocks(self, make_block: Callable[[str, Shape, int], str], shape: Shape, rows: Sequence[Row]) -> int:
        """
        Write many rows with each statement; return how many were written.

        SQLite works without the interpreter's lock, and needs it back after each statement. `executemany` runs one for
        each row, and a busy event loop gives the lock back 5 ms later (`sys.getswitchinterval`).
        """
        written = start = 0
        with self.connection.wrap_database_errors:
            while start < len(rows):
                size = next(size for size in self._blocks if size <= len(rows) - start)
                values = list(chain.from_iterable(rows[start : start + size]))
                # Not by Django's cursor, which would look for each `%s` in the long text.
                written += int(self.connection.connection.execute(make_block(self.alias, shape, size), values).rowcount)
                start += size
        return written

    @cached_property
    def _blocks(self) -> tuple[int, ...]:
        """The sizes that the limit on the parameters of a statement allows."""
        import sqlite3  # Python may have been built without it, for a project with another database.

        limit = int(self.connection.connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER))
        return tuple(size for size in BLOCKS if size * len(FULL.inserted) <= limit)

    def prepare(self) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute(f"PRAGMA busy_timeout = {LONGEST_LOCK_WAIT * 1000}")
        # A transaction that reads before it writes would otherwise be refused whenever another one wrote in between.
        self.connection.transaction_mode = "IMMEDIATE"  # type: ignore[attr-defined]  # Of Django's SQLite wrapper.


@lru_cache
def insert_block(alias: str, shape: Shape, size: int) -> str:
    """Return the INSERT of so many rows of a shape."""
    insert, values = insert_text(alias, shape).replace("%s", "?").split(" VALUES ")
    return f"{insert} VALUES {', '.join([values] * size)} ON CONFLICT (id) DO NOTHING"


@lru_cache
def update_block(alias: str, shape: Shape, size: int) -> str:
    """Return the fenced UPDATE of so many rows of a shape."""
    quote = connections[alias].ops.quote_name
    table = table_text(alias)
    values = f"({', '.join('?' * (len(shape.changed) + len(FENCE)))})"
    changes = ", ".join(change_text(alias, name, f"new.column{index}") for index, name in enumerate(shape.changed, 1))
    fence = " AND ".join(
        f"{table}.{quote(name)} = new.column{index}" for index, name in enumerate(FENCE, len(shape.changed) + 1)
    )
    return (
        f"UPDATE {table} SET {changes} "  # noqa: S608  # Our own names.
        f"FROM (VALUES {', '.join([values] * size)}) AS new WHERE {fence}"
    )
