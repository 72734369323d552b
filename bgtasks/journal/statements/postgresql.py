"""PostgreSQL: few messages for a batch, COPY, and many rows as one JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property, lru_cache
from typing import Any

from django.db import IntegrityError, connections, transaction
from django.db.backends.utils import CursorWrapper

from ...models import BackgroundTask
from .base import LONGEST_LOCK_WAIT, Statements, change_text, names_text, table_text
from .claim import Wanted
from .errors import Disowned
from .rows import FENCE, FULL, PLAIN, Row, Shape, number_of

MANY = 20  # Rows from which on COPY, or an UPDATE from JSON, is faster than one statement for each row.
OFFER_AFTER = 20  # Rows sent between two offers to the event loop, see `LoopTurn`.

_SHORT_NAMES = tuple(f"v{index}" for index in range(len(FULL.inserted)))

_BOUNDS = (
    f"SET LOCAL lock_timeout = '{LONGEST_LOCK_WAIT}s'; "
    f"SET LOCAL idle_in_transaction_session_timeout = '{5 * LONGEST_LOCK_WAIT}s'"
)
# With old statistics, such as those of an empty table, PostgreSQL would read and sort all rows. For the rest of the
# transaction these settings leave it two ways: the index in the order of a claim, and the primary key.
_BY_THE_INDEX = "; ".join(
    f"SET LOCAL enable_{way} = off" for way in ("sort", "seqscan", "bitmapscan", "hashjoin", "mergejoin")
)


class PostgreSQLStatements(Statements):
    takes_iso_text = True
    append_transition = "transitions || jsonb_set(%s::jsonb, '{attempt}', to_jsonb(attempt + 1))"
    claim_lock = "FOR UPDATE SKIP LOCKED"

    def begin_together(self, inserts: Sequence[Row], updates: Sequence[Row]) -> bool:
        # Each message takes the journal 50 µs beside the wait: with two instead of six, a batch of one takes half.
        if self._client_cursor is None:
            return False
        self.connection.ensure_connection()  # A signal's receiver may have closed it since the last batch.
        connection = self.connection.connection
        is_whole = False
        try:
            with self.connection.wrap_database_errors, self._client_cursor(connection) as cursor:
                is_whole = self._send_together(cursor, inserts, updates)
        except IntegrityError:
            pass  # A row is there already.
        finally:
            if not is_whole:
                with suppress(Exception):  # The connection may be too broken for that.
                    connection.rollback()
        return is_whole

    def _send_together(self, cursor: Any, inserts: Sequence[Row], updates: Sequence[Row]) -> bool:
        statements = [f"BEGIN; {_BOUNDS}"]
        contents: list[Any] = []
        expected = []
        if inserts:
            if len(inserts) >= MANY:  # COPY takes a message of its own, and half the time for each row.
                cursor.execute(statements.pop())
                self._copy(cursor, inserts, PLAIN)
            else:
                statements.append(insert_all_text(self.alias, PLAIN))
                contents.append(self._as_json(inserts))
                expected.append(f"INSERT 0 {len(inserts)}")
            statements.append(self._count)
            contents += [len(inserts), self._origin]
            expected.append("UPDATE 1")
        if updates:
            self.loop_turn.offer()
            statements += [_BY_THE_INDEX, update_all_text(self.alias, PLAIN)]
            contents.append(self._as_json(updates))
            expected.append(f"UPDATE {len(updates)}")
            self.loop_turn.offer()
        cursor.execute("; ".join(statements), contents)
        answers = [cursor.statusmessage]
        while cursor.nextset():
            answers.append(cursor.statusmessage)
        answers = [answer for answer in answers if answer not in ("BEGIN", "SET")]
        if inserts and answers[-1 - bool(updates)] == "UPDATE 0":  # That of the count.
            raise Disowned
        return answers == expected

    def insert(self, cursor: CursorWrapper, rows: Sequence[Row], shape: Shape = PLAIN) -> int:
        # COPY takes a fifth of the time of INSERTs, but cannot skip a row that exists.
        if len(rows) < MANY or self._client_cursor is None:  # The cursor of psycopg 2 has no `copy`.
            return super().insert(cursor, rows, shape)
        try:
            with transaction.atomic(using=self.alias):
                self._copy(cursor, rows, shape)
        except IntegrityError:
            return super().insert(cursor, rows, shape)
        return len(rows)

    def _copy(self, cursor: Any, rows: Sequence[Row], shape: Shape) -> None:
        constants = tuple(shape.constants.values())
        with (
            self.connection.wrap_database_errors,
            cursor.copy(f"COPY {self._table} ({names_text(self.alias, shape)}) FROM STDIN") as copy,
        ):
            for index, row in enumerate(rows):
                if not index % OFFER_AFTER:
                    self.loop_turn.offer()
                copy.write_row(row + constants)

    def update(self, cursor: CursorWrapper, rows: Sequence[Row], shape: Shape = PLAIN) -> int:
        # One statement for all takes a third of the time of one for each.
        if len(rows) < MANY:
            return super().update(cursor, rows, shape)
        cursor.execute(_BY_THE_INDEX)
        cursor.execute(update_all_text(self.alias, shape), [self._as_json(rows)])
        return int(cursor.rowcount)

    @cached_property
    def _client_cursor(self) -> Any:
        """
        The cursor of psycopg 3 that can send several statements in one message, even with `server_side_binding` on.

        None: the project uses psycopg 2.
        """
        try:
            from psycopg import ClientCursor  # The project chooses its driver.
        except ImportError:
            return None
        return ClientCursor

    @staticmethod
    def _as_json(rows: Sequence[Row]) -> str:
        """Return rows as a list of {"v0": …, "v1": …}: PostgreSQL reads short names faster."""
        return json.dumps([dict(zip(_SHORT_NAMES, row, strict=False)) for row in rows])

    def claim(self, cursor: CursorWrapper, wanted: Wanted, count: int, at: float) -> list[Row]:
        moment = self.moment(at)
        cursor.execute(_BY_THE_INDEX)
        # Materialized: as a plain subquery PostgreSQL may run it once per row, and take more than `count`.
        cursor.execute(
            f"""WITH picked AS MATERIALIZED ({self._select_ready(wanted, "id AS picked_id")})
            UPDATE {self._table} SET {self._claim_changes} FROM picked WHERE id = picked_id
            RETURNING {self._claimed}""",  # noqa: S608  # Our own names.
            [*wanted.values, moment, count, self._claim_entry(at), self._process, moment],
        )
        return [(number_of(row[0]), *row[1:]) for row in cursor.fetchall()]

    def now(self, cursor: CursorWrapper) -> float:
        cursor.execute("SELECT EXTRACT(EPOCH FROM clock_timestamp())")
        return float(cursor.fetchone()[0])

    @contextmanager
    def hasty(self, cursor: CursorWrapper) -> Iterator[None]:
        cursor.execute("SET LOCAL lock_timeout = '50ms'")
        yield
        cursor.execute(f"SET LOCAL lock_timeout = '{LONGEST_LOCK_WAIT}s'")

    def is_lock_wait(self, error: Exception) -> bool:
        return getattr(error.__cause__, "sqlstate", getattr(error.__cause__, "pgcode", None)) == "55P03"

    def begin(self, cursor: CursorWrapper) -> None:
        # For the transaction only: behind a pooler such as PgBouncer the next one may run on another connection.
        cursor.execute(_BOUNDS)


# The texts of statements for many rows, made once. Their one parameter is the list of rows as JSON.


@lru_cache
def insert_all_text(alias: str, shape: Shape) -> str:
    kinds = _kinds(alias)
    values = [f"v{index}::{kinds[name]}" for index, name in enumerate(shape.inserted)]
    values += [repr(value) for value in shape.constants.values()]
    return (
        f"INSERT INTO {table_text(alias)} ({names_text(alias, shape)}) "  # noqa: S608  # Our own names.
        f"SELECT {', '.join(values)} FROM {_recordset(alias, shape.inserted)}"
    )


@lru_cache
def update_all_text(alias: str, shape: Shape) -> str:
    quote, kinds, table = connections[alias].ops.quote_name, _kinds(alias), table_text(alias)
    changes = ", ".join(
        change_text(alias, name, f"v{index}::{kinds[name]}") for index, name in enumerate(shape.changed)
    )
    fence = " AND ".join(f"{table}.{quote(name)} = v{index}" for index, name in enumerate(FENCE, len(shape.changed)))
    return (
        f"UPDATE {table} SET {changes} "  # noqa: S608  # Our own names.
        f"FROM {_recordset(alias, shape.changed + FENCE)} WHERE {fence}"
    )


def _recordset(alias: str, names: Sequence[str]) -> str:
    """Return the text of a table made from the result of `_as_json`. Its columns of JSON are text."""
    kinds = _kinds(alias)
    types = ["text" if kinds[name] == "jsonb" else kinds[name] for name in names]
    columns = ", ".join(f"v{index} {kind}" for index, kind in enumerate(types))
    return f"json_to_recordset(%s::json) AS new_rows ({columns})"


def _kinds(alias: str) -> dict[str, str]:
    """Return the types of the columns by their names."""
    connection = connections[alias]
    return {str(field.column): str(field.db_type(connection)) for field in BackgroundTask._meta.concrete_fields}
