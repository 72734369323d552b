"""
The multi-row SQL of the journal and the claims: one method per statement, one class per database where it differs.

Plain SQL on tuples instead of model instances: the journal shares the interpreter with the server's event loop, and an
instance per task costs more than everything else together. Statuses stand in the text, not in the parameters, where a
partial index must be found by them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from itertools import chain
from typing import Any, overload
from uuid import UUID

from django.conf import settings as django_settings
from django.db import IntegrityError, InterfaceError, InternalError, OperationalError, connections, transaction
from django.db.backends.utils import CursorWrapper
from django.utils import timezone

from ..failure import storable
from ..models import BackgroundTask, Process
from ..status import Status
from .record import Entry, Record

Row = tuple[Any, ...]
Moment = tuple[Any, str]  # As the database takes it, and as ISO text for the history.

# Looking a member up on its class takes longer than the rest of a comparison.
READY, RUNNING, SUCCESSFUL, FAILED = Status.READY, Status.RUNNING, Status.SUCCESSFUL, Status.FAILED

_COLUMNS = (
    "id", "name", "status", "args", "kwargs", "on_lost", "stuck_after", "attempt", "max_attempts", "created_at",
    "started_at", "finished_at", "process", "origin", "error_type", "error_message", "traceback", "error_fingerprint",
    "result", "transitions", "fired_by", "release", "signature_fingerprint", "is_task_function",
)  # fmt: skip
_CONSTANTS = {"priority": 0, "queue_name": "default", "key": ""}  # Options that do not exist yet.
_CHANGED = (
    "status", "attempt", "started_at", "finished_at", "process", "error_type", "error_message", "traceback",
    "error_fingerprint", "result", "transitions",
)  # fmt: skip
_FENCE = ("id", "process", "attempt", "status")
_SHORT_NAMES = tuple(f"v{index}" for index in range(len(_COLUMNS)))
_CLAIMED = ("id", "name", "args", "kwargs", "attempt", "on_lost", "stuck_after", "transitions", "origin")

LONGEST_LOCK_WAIT = 2  # Seconds.
MAX_PARAMETERS = 500  # In one statement; SQLite bounds them.
MANY = 20  # Rows for which PostgreSQL's ways to write many are worth their beginning.

LARGEST_BLOCK = 128  # Rows in one statement for SQLite, which prepares and keeps each.
_dumps = json.dumps
_quote = lru_cache(200)(json.dumps)  # Most histories say the same: "fired", "returned", "claimed".


class Disowned(Exception):
    """The row of this process is gone or says that it is dead: it has to begin anew under another id."""


class Statements:
    """What works on every database. A subclass says what its database does differently."""

    def __init__(self, alias: str, process_id: UUID, release: str, origin: UUID | None) -> None:
        self.alias = alias
        self.connection = connections[alias]
        self._process = process_id.hex
        self._origin = (origin or process_id).hex
        self._by = f'"{process_id}"'
        self._release = release
        # What Django makes of a moment for SQLite and MariaDB, unless the project keeps local times: its text in UTC.
        self._takes_utc_text = self.connection.timezone is UTC
        quote = self.connection.ops.quote_name
        self._table = quote(BackgroundTask._meta.db_table)
        self._names = ", ".join(quote(name) for name in (*_COLUMNS, *_CONSTANTS))
        values = ", ".join(["%s"] * len(_COLUMNS) + [repr(value) for value in _CONSTANTS.values()])
        self._insert = f"INSERT INTO {self._table} ({self._names}) VALUES ({values})"  # noqa: S608  # Our own names.
        changes = ", ".join(f"{quote(name)} = %s" for name in _CHANGED)
        fence = " AND ".join(f"{quote(name)} = %s" for name in _FENCE)
        self._count = (
            f"UPDATE {quote(Process._meta.db_table)} "  # noqa: S608
            "SET fired_count = fired_count + %s WHERE id = %s AND state <> 'DEAD'"
        )
        self._update = f"UPDATE {self._table} SET {changes} WHERE {fence}"  # noqa: S608

    def prepare(self) -> None:
        """Set up a new connection: our waits for a lock end well before this process would be taken for dead."""

    def begin(self, cursor: CursorWrapper) -> None:
        """Set up a new transaction, where a connection is not ours alone to set up."""

    @contextmanager
    def transaction(self) -> Iterator[CursorWrapper]:
        """Open a transaction whose waits for locks are bounded, and give its cursor."""
        with transaction.atomic(using=self.alias), self.connection.cursor() as cursor:
            self.begin(cursor)
            yield cursor

    def is_outage(self, error: Exception) -> bool:
        """Tell whether the database refuses everything now (away, locked, full), and not just this record."""
        # PostgreSQL's InternalError says that a transaction cannot write (a replica, a timeout), not what it was to.
        return isinstance(error, OperationalError | InterfaceError | InternalError) or is_missing_table(error)

    # Values.

    def moment(self, seconds: float) -> Moment:
        """Return a moment in seconds since the epoch, as the database takes it and as ISO text."""
        # 1 µs instead of 2 for each, as the text of a whole second is made once.
        whole = int(seconds)
        day, time = _split_second(whole)
        micros = min(int((seconds - whole) * 1_000_000 + 0.5), 999_999)
        fraction = str(1_000_000 + micros)[1:]
        stamp = f"{day}T{time}.{fraction}+00:00"
        if self.takes_iso_text:
            return stamp, stamp
        if self._takes_utc_text:
            return f"{day} {time}.{fraction}", stamp
        moment = to_datetime(whole).replace(microsecond=micros)
        return self.connection.ops.adapt_datetimefield_value(moment), stamp

    def _transition(self, entry: Entry, moment: Moment) -> str:
        status, _, attempt, why = entry
        return (
            f'{{"status": "{status._value_}", "at": "{moment[1]}", "attempt": {attempt}, "by": {self._by}, '
            f'"why": {_quote(why)}}}'
        )

    def _transitions(self, record: Record, entries: Sequence[Entry], moments: Sequence[Moment]) -> str:
        new = [self._transition(entry, moment) for entry, moment in zip(entries, moments, strict=True)]
        if record.offset or record.prior:
            new[: record.offset] = [_dumps(entry) for entry in record.prior]
        return f"[{', '.join(new)}]"

    @staticmethod
    def _times(entries: Sequence[Entry], moments: Sequence[Moment]) -> tuple[Any, Any]:
        """Return when the last attempt started and when the task finished, each None if it did not."""
        last = entries[-1][0]
        finished = None if last is RUNNING or last is READY else moments[-1][0]
        for index in range(len(entries) - 1, -1, -1):
            if entries[index][0] is RUNNING:
                return moments[index][0], finished
        return None, finished

    def _owner(self, record: Record, status: Status) -> str | None:
        """READY has no owner, but for a coroutine object, which only this process can start."""
        return None if status is READY and record.task is not None else self._process

    @staticmethod
    def _failure(record: Record, status: Status) -> tuple[str, str, str, str]:
        failure = record.failure if status is FAILED else None
        if failure is None:
            return "", "", "", ""
        return failure.type, failure.message, failure.traceback, failure.fingerprint

    def insert_row(self, record: Record, entries: Sequence[Entry], is_counted: bool = True) -> Row:
        """
        Return what to insert.

        Args:
            is_counted: whether this process counts it as fired, in the same transaction.
        """
        status, _, attempt, _ = entries[-1]
        task = record.task
        args, kwargs = record.encode_arguments()
        moments = [self.moment(entry[1]) for entry in entries]
        started, finished = self._times(entries, moments)
        return (
            f"{record.number:032x}",
            record.name,
            status._value_,
            args,
            kwargs,
            record.on_lost,
            task.stuck_after if task is not None else None,
            attempt,
            task.max_attempts if task is not None and not record.is_stripped else 1,
            moments[0][0],
            started,
            finished,
            self._owner(record, status),
            self._origin if is_counted else None,
            *self._failure(record, status),
            record.result_text if status is SUCCESSFUL else None,
            self._transitions(record, entries, moments),
            fired_by(record.scope) if record.scope is not None else None,
            self._release,
            "",
            task is not None,
        )

    def update_row(self, record: Record, entries: Sequence[Entry]) -> Row:
        status, _, attempt, _ = entries[-1]
        assert record.written is not None  # Only what was inserted is updated.
        moments = [self.moment(entry[1]) for entry in entries]
        return (
            status._value_,
            attempt,
            *self._times(entries, moments),
            self._owner(record, status),
            *self._failure(record, status),
            record.result_text if status is SUCCESSFUL else None,
            self._transitions(record, entries, moments),
            f"{record.number:032x}",
            self._process,
            record.written[1],
            record.written[0]._value_,
        )

    # Statements.

    def insert(self, cursor: CursorWrapper, rows: Sequence[Row]) -> int:
        """Insert rows; return how many. One that is there already was written by us, and its answer got lost."""
        cursor.executemany(f"{self._insert} ON CONFLICT (id) DO NOTHING", rows)
        return int(cursor.rowcount)

    def update(self, cursor: CursorWrapper, rows: Sequence[Row]) -> int:
        """Update rows that are still as this process left them; return how many were."""
        cursor.executemany(self._update, rows)
        return int(cursor.rowcount)

    def begin_together(self, inserts: Sequence[Row], updates: Sequence[Row]) -> bool:
        """
        Insert, count and update with as few messages as the database allows, and leave the transaction open.

        Returns:
            Whether all of that was done, and is to be committed. If not, nothing is open: another way has to be taken.

        Raises:
            Disowned: as `count_fired`.
        """
        return False

    def commit(self) -> None:
        """Commit what `begin_together` has begun."""
        with self.connection.wrap_database_errors:
            self.connection.connection.commit()

    def count_fired(self, cursor: CursorWrapper, count: int) -> None:
        """
        Count fired tasks in the row of their origin, in the transaction of their first write.

        Raises:
            Disowned: it was declared dead, or its row is gone. It must not record what others would rescue at once.
        """
        cursor.execute(self._count, [count, self._origin])
        if not cursor.rowcount:
            raise Disowned

    def claim(
        self, cursor: CursorWrapper, names: Iterable[str], count: int, at: float, queues: Sequence[str] = ()
    ) -> list[Row]:
        """
        Take up to `count` READY rows of these names for this process.

        Args:
            queues: only rows of these. Empty: of all.

        Returns:
            Rows of (number, name, args, kwargs, attempt, on_lost, stuck_after, transitions, origin), the history as it
            is after the claim; JSON as text.
        """
        known = list(names)
        moment, _ = self.moment(at)
        cursor.execute(
            f"""UPDATE {self._table} SET {self._claim_changes}
            WHERE id IN ({self._select_ready(len(known), len(queues))}) AND status = 'READY' AND process IS NULL
            RETURNING {self._claimed}""",  # noqa: S608  # Our own names.
            [self._claim_entry(at), self._process, moment, *known, *queues, moment, count],
        )
        return [(_number(row[0]), *row[1:]) for row in cursor.fetchall()]

    def count_claimed(self, cursor: CursorWrapper, claimed: Sequence[Row]) -> int:
        """Become the origin of the claimed rows that have none; return how many are to be counted as fired."""
        uncounted = [f"{row[0]:032x}" for row in claimed if row[-1] is None]
        for start in range(0, len(uncounted), MAX_PARAMETERS):
            part = uncounted[start : start + MAX_PARAMETERS]
            marks = ", ".join(["%s"] * len(part))
            cursor.execute(
                f"UPDATE {self._table} SET origin = %s WHERE id IN ({marks})",  # noqa: S608  # Our own names.
                [self._process, *part],
            )
        return len(uncounted)

    def note_places(self, cursor: CursorWrapper, rows: Sequence[Row]) -> None:
        """Note where running tasks await: rows of (place as JSON, number, attempt)."""
        cursor.executemany(
            f"UPDATE {self._table} SET await_place = %s "  # noqa: S608  # Our own names.
            "WHERE id = %s AND attempt = %s AND process = %s AND status = 'RUNNING'",
            [(place, f"{number:032x}", attempt, self._process) for place, number, attempt in rows],
        )

    def find_cancels(self) -> list[int]:
        """Return the numbers of the tasks that run in this process and that somebody asks to cancel."""
        with self.connection.cursor() as cursor:
            cursor.execute(
                f"SELECT id FROM {self._table} {self.by_cancels} "  # noqa: S608  # Our own names.
                "WHERE process = %s AND status = 'RUNNING' AND cancel_requested_at IS NOT NULL",
                [self._process],
            )
            return [_number(row[0]) for row in cursor.fetchall()]

    def adopt(self, cursor: CursorWrapper, process: UUID) -> None:
        """Take over what another id of this process runs and holds, unless it was given a verdict already."""
        for status in ("RUNNING", "READY"):
            cursor.execute(
                f"UPDATE {self._table} SET process = %s "  # noqa: S608  # Our own names.
                f"WHERE process = %s AND status = '{status}'",
                [self._process, process.hex],
            )

    takes_iso_text = False  # Whether its columns know of time zones, and so take a moment as it stands in the history.
    by_cancels = ""  # What has a look for requests to cancel take the index of these, and not read all running rows.
    append_transition = ""  # An expression with one parameter, the new entry as JSON; its attempt is added by SQL.
    claim_lock = ""  # How the claims of several processes keep out of each other's way: SQLite has one writer.

    @property
    def _claim_changes(self) -> str:
        # The history first: MariaDB reads what the assignments before it have changed.
        return (
            f"transitions = {self.append_transition}, status = 'RUNNING', process = %s, started_at = %s, "
            "attempt = attempt + 1"
        )

    @property
    def _claimed(self) -> str:
        return ", ".join(self.connection.ops.quote_name(name) for name in _CLAIMED)

    def _claim_entry(self, at: float) -> str:
        return self._transition((RUNNING, at, 0, "claimed"), self.moment(at)).replace('"attempt": 0, ', "")

    def _select_ready(self, known_count: int, queue_count: int, columns: str = "id") -> str:
        marks = ", ".join(["%s"] * known_count)
        queues = f"AND queue_name IN ({', '.join(['%s'] * queue_count)})" if queue_count else ""
        return f"""SELECT {columns} FROM {self._table}
            WHERE status = 'READY' AND process IS NULL AND name IN ({marks}) {queues}
                AND (run_after IS NULL OR run_after <= %s)
            ORDER BY priority DESC, id LIMIT %s {self.claim_lock}"""  # noqa: S608  # Our own names.

    def read_back(self, cursor: CursorWrapper, numbers: Sequence[int]) -> dict[int, tuple[str, int, str | None]]:
        """Return (status, attempt, process) of rows by number; ids that are not there are left out."""
        found: dict[int, tuple[str, int, str | None]] = {}
        for start in range(0, len(numbers), MAX_PARAMETERS):
            part = numbers[start : start + MAX_PARAMETERS]
            marks = ", ".join(["%s"] * len(part))
            cursor.execute(
                f"SELECT id, status, attempt, process FROM {self._table} WHERE id IN ({marks})",  # noqa: S608
                [f"{number:032x}" for number in part],
            )
            found |= {_number(row[0]): (row[1], row[2], _hex(row[3])) for row in cursor.fetchall()}
        return found

    def is_ours(self, process: str | None) -> bool:
        return process == self._process


@overload
def to_datetime(seconds: float) -> datetime: ...


@overload
def to_datetime(seconds: None) -> None: ...


def to_datetime(seconds: float | None) -> datetime | None:
    """Return a moment in seconds since the epoch as the project's settings have moments: aware, or naive local time."""
    if seconds is None:
        return None
    value = datetime.fromtimestamp(seconds, UTC)
    return value if django_settings.USE_TZ else timezone.make_naive(value, timezone.get_default_timezone())


@lru_cache(100)  # Most moments of a batch are of the same few seconds.
def _split_second(seconds: int) -> tuple[str, str]:
    """Return a whole second since the epoch as the texts of its day and time in UTC."""
    text = datetime.fromtimestamp(seconds, UTC).isoformat()
    return text[:10], text[11:19]


def is_missing_table(error: Exception) -> bool:
    """Tell whether the migrations have not been run: as SQLite says it, PostgreSQL and MariaDB by their codes."""
    is_told = getattr(error.__cause__, "sqlstate", None) == "42P01" or error.args[:1] == (1146,)
    return is_told or "no such table" in str(error)


def _hex(value: Any) -> str | None:
    return value if value is None else f"{_number(value):032x}"


def _number(value: Any) -> int:
    return value.int if isinstance(value, UUID) else int(str(value).replace("-", ""), 16)


class SQLiteStatements(Statements):
    by_cancels = 'INDEXED BY "bgtasks_cancel"'  # Without statistics it would take that of the statuses.
    append_transition = "json_insert(transitions, '$[#]', json_set(%s, '$.attempt', attempt + 1))"

    def insert(self, cursor: CursorWrapper, rows: Sequence[Row]) -> int:
        return self._write_in_blocks(self._insert_block, rows)

    def update(self, cursor: CursorWrapper, rows: Sequence[Row]) -> int:
        return self._write_in_blocks(self._update_block, rows)

    def _write_in_blocks(self, statement: Callable[[int], str], rows: Sequence[Row]) -> int:
        """
        Write many rows by each statement; return how many were written.

        SQLite works without the interpreter's lock, and with it needs to have it back: `executemany` asks for it after
        each row, and a busy event loop gives it 5 ms later (`sys.getswitchinterval`).
        """
        written = start = 0
        size = self._largest_block
        with self.connection.wrap_database_errors:
            while start < len(rows):
                while size > len(rows) - start:
                    size //= 2  # Few sizes, so that the driver finds each statement prepared.
                values = list(chain.from_iterable(rows[start : start + size]))
                # Not by Django's cursor, which would look for each `%s` in the long text.
                written += int(self.connection.connection.execute(statement(size), values).rowcount)
                start += size
        return written

    @cached_property
    def _largest_block(self) -> int:
        """The rows that fit into one statement, a power of two."""
        import sqlite3  # Python may have been built without it, for a project with another database.

        limit = int(self.connection.connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER))
        return min(LARGEST_BLOCK, 1 << (limit // len(_COLUMNS)).bit_length() - 1)

    @cached_property
    def _insert_block(self) -> Callable[[int], str]:
        return lru_cache(self._make_insert_block)

    @cached_property
    def _update_block(self) -> Callable[[int], str]:
        return lru_cache(self._make_update_block)

    def _make_insert_block(self, size: int) -> str:
        insert, values = self._insert.replace("%s", "?").split(" VALUES ")
        return f"{insert} VALUES {', '.join([values] * size)} ON CONFLICT (id) DO NOTHING"

    def _make_update_block(self, size: int) -> str:
        quote = self.connection.ops.quote_name
        values = f"({', '.join('?' * (len(_CHANGED) + len(_FENCE)))})"
        changes = ", ".join(f"{quote(name)} = new.column{index}" for index, name in enumerate(_CHANGED, 1))
        fence = " AND ".join(
            f"{self._table}.{quote(name)} = new.column{index}" for index, name in enumerate(_FENCE, len(_CHANGED) + 1)
        )
        return (
            f"UPDATE {self._table} SET {changes} "  # noqa: S608  # Our own names.
            f"FROM (VALUES {', '.join([values] * size)}) AS new WHERE {fence}"
        )

    def prepare(self) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute(f"PRAGMA busy_timeout = {LONGEST_LOCK_WAIT * 1000}")
        # A transaction that reads before it writes would otherwise be refused whenever another one wrote in between.
        self.connection.transaction_mode = "IMMEDIATE"  # type: ignore[attr-defined]  # Of Django's SQLite wrapper.


_BOUNDS = (
    f"SET LOCAL lock_timeout = '{LONGEST_LOCK_WAIT}s'; "
    f"SET LOCAL idle_in_transaction_session_timeout = '{5 * LONGEST_LOCK_WAIT}s'"
)
# With statistics of another time, such as of an empty table, PostgreSQL would read and sort all rows. For the rest of
# the transaction this leaves it nothing but the index that is in the order of a claim, and the primary key.
_BY_THE_INDEX = "; ".join(
    f"SET LOCAL enable_{way} = off" for way in ("sort", "seqscan", "bitmapscan", "hashjoin", "mergejoin")
)


class PostgreSQLStatements(Statements):
    takes_iso_text = True
    append_transition = "transitions || jsonb_set(%s::jsonb, '{attempt}', to_jsonb(attempt + 1))"
    claim_lock = "FOR UPDATE SKIP LOCKED"

    def begin_together(self, inserts: Sequence[Row], updates: Sequence[Row]) -> bool:
        # Each message costs the journal 50 µs beside the wait: with two instead of six a batch of one takes half of it.
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
                self._copy(cursor, inserts)
            else:
                statements.append(self._insert_all)
                contents.append(self._as_json(inserts))
                expected.append(f"INSERT 0 {len(inserts)}")
            statements.append(self._count)
            contents += [len(inserts), self._origin]
            expected.append("UPDATE 1")
        if updates:
            statements += [_BY_THE_INDEX, self._update_all]
            contents.append(self._as_json(updates))
            expected.append(f"UPDATE {len(updates)}")
        cursor.execute("; ".join(statements), contents)
        told = [cursor.statusmessage]
        while cursor.nextset():
            told.append(cursor.statusmessage)
        told = [status for status in told if status not in ("BEGIN", "SET")]
        if inserts and told[-1 - bool(updates)] == "UPDATE 0":
            raise Disowned
        return told == expected

    def insert(self, cursor: CursorWrapper, rows: Sequence[Row]) -> int:
        # COPY takes a fifth of the time of INSERTs, but nothing in its stead for a row that is there already.
        if len(rows) < MANY or self._client_cursor is None:  # psycopg 2 has none that could be used so.
            return super().insert(cursor, rows)
        try:
            with transaction.atomic(using=self.alias):
                self._copy(cursor, rows)
        except IntegrityError:
            return super().insert(cursor, rows)
        return len(rows)

    def _copy(self, cursor: Any, rows: Sequence[Row]) -> None:
        constants = tuple(_CONSTANTS.values())
        with (
            self.connection.wrap_database_errors,
            cursor.copy(f"COPY {self._table} ({self._names}) FROM STDIN") as copy,
        ):
            for row in rows:
                copy.write_row(row + constants)

    def update(self, cursor: CursorWrapper, rows: Sequence[Row]) -> int:
        # One statement for all takes a third of the time of one for each.
        if len(rows) < MANY:
            return super().update(cursor, rows)
        cursor.execute(_BY_THE_INDEX)
        cursor.execute(self._update_all, [self._as_json(rows)])
        return int(cursor.rowcount)

    @cached_property
    def _client_cursor(self) -> Any:
        """
        The cursor of psycopg 3 that lets a message have several statements, also where `server_side_binding` is on.

        None: the project uses psycopg 2.
        """
        try:
            from psycopg import ClientCursor  # A driver is no requirement of ours.
        except ImportError:
            return None
        return ClientCursor

    @staticmethod
    def _as_json(rows: Sequence[Row]) -> str:
        """Return rows as a list of {"v0": …, "v1": …}: PostgreSQL reads short names faster."""
        return _dumps([dict(zip(_SHORT_NAMES, row, strict=False)) for row in rows])

    @cached_property
    def _kinds(self) -> dict[str, str]:
        """The types of the columns."""
        fields = BackgroundTask._meta.concrete_fields
        return {str(field.column): str(field.db_type(self.connection)) for field in fields}

    @cached_property
    def _texts(self) -> dict[str, str]:
        """The types of what a row holds of them: a column of JSON comes as text."""
        return {name: "text" if kind == "jsonb" else kind for name, kind in self._kinds.items()}

    @cached_property
    def _insert_all(self) -> str:
        """The insert of `Statements` for a list of rows as JSON."""
        values = [f"v{index}::{self._kinds[name]}" for index, name in enumerate(_COLUMNS)]
        values += [repr(value) for value in _CONSTANTS.values()]
        return (
            f"INSERT INTO {self._table} ({self._names}) SELECT {', '.join(values)} "  # noqa: S608  # Our own names.
            f"FROM {self._recordset(_COLUMNS)}"
        )

    @cached_property
    def _update_all(self) -> str:
        """The update of `Statements` for a list of rows as JSON."""
        quote = self.connection.ops.quote_name
        changes = ", ".join(f"{quote(name)} = v{index}::{self._kinds[name]}" for index, name in enumerate(_CHANGED))
        fence = " AND ".join(
            f"{self._table}.{quote(name)} = v{index}" for index, name in enumerate(_FENCE, len(_CHANGED))
        )
        return (
            f"UPDATE {self._table} SET {changes} "  # noqa: S608  # Our own names.
            f"FROM {self._recordset(_CHANGED + _FENCE)} WHERE {fence}"
        )

    def _recordset(self, names: Sequence[str]) -> str:
        """What `_as_json` makes of rows, as a table again; with one parameter, the JSON."""
        columns = ", ".join(f"v{index} {self._texts[name]}" for index, name in enumerate(names))
        return f"json_to_recordset(%s::json) AS new_rows ({columns})"

    def claim(
        self, cursor: CursorWrapper, names: Iterable[str], count: int, at: float, queues: Sequence[str] = ()
    ) -> list[Row]:
        known = list(names)
        moment, _ = self.moment(at)
        cursor.execute(_BY_THE_INDEX)
        # Materialized: as a plain subquery PostgreSQL may run it once per row, and take more than `count`.
        cursor.execute(
            f"""WITH picked AS MATERIALIZED ({self._select_ready(len(known), len(queues), "id AS picked_id")})
            UPDATE {self._table} SET {self._claim_changes} FROM picked WHERE id = picked_id
            RETURNING {self._claimed}""",  # noqa: S608  # Our own names.
            [*known, *queues, moment, count, self._claim_entry(at), self._process, moment],
        )
        return [(_number(row[0]), *row[1:]) for row in cursor.fetchall()]

    def begin(self, cursor: CursorWrapper) -> None:
        # For the transaction only: behind a pooler such as PgBouncer the next one may run on another connection.
        cursor.execute(_BOUNDS)


class MariaDBStatements(Statements):
    append_transition = "JSON_ARRAY_APPEND(transitions, '$', JSON_INSERT(%s, '$.attempt', attempt + 1))"
    claim_lock = "FOR UPDATE SKIP LOCKED"

    def prepare(self) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute(
                f"SET SESSION innodb_lock_wait_timeout = {LONGEST_LOCK_WAIT}, lock_wait_timeout = {LONGEST_LOCK_WAIT}"
            )

    def is_outage(self, error: Exception) -> bool:
        # The client calls some refusals of a value OperationalError: 1366, a character that the column's character set
        # does not have; 4025, a CHECK, such as that of a JSON column.
        return super().is_outage(error) and error.args[:1] not in ((1366,), (4025,))

    def insert(self, cursor: CursorWrapper, rows: Sequence[Row]) -> int:
        # INSERT IGNORE would also ignore values that do not fit, and ON DUPLICATE KEY counts rows that it leaves alone.
        try:
            with transaction.atomic(using=self.alias):
                cursor.executemany(self._insert, rows)
        except IntegrityError as error:
            if error.args[:1] != (1062,):
                raise
            there = self.read_back(cursor, [int(row[0], 16) for row in rows])
            rows = [row for row in rows if int(row[0], 16) not in there]
            if rows:
                cursor.executemany(self._insert, rows)
        return len(rows)

    def claim(
        self, cursor: CursorWrapper, names: Iterable[str], count: int, at: float, queues: Sequence[str] = ()
    ) -> list[Row]:
        # An UPDATE here returns no rows. The ones that were selected stay locked until the commit.
        known = list(names)
        moment, _ = self.moment(at)
        cursor.execute(self._select_ready(len(known), len(queues)), [*known, *queues, moment, count])
        ids = [row[0] for row in cursor.fetchall()]
        if not ids:
            return []
        marks = ", ".join(["%s"] * len(ids))
        cursor.execute(
            f"UPDATE {self._table} SET {self._claim_changes} WHERE id IN ({marks})",  # noqa: S608
            [self._claim_entry(at), self._process, moment, *ids],
        )
        cursor.execute(f"SELECT {self._claimed} FROM {self._table} WHERE id IN ({marks})", ids)  # noqa: S608
        return [(_number(row[0]), *row[1:]) for row in cursor.fetchall()]


_BY_VENDOR: dict[str, type[Statements]] = {
    "sqlite": SQLiteStatements,
    "postgresql": PostgreSQLStatements,
    "mysql": MariaDBStatements,
}
SUPPORTED_VENDORS = tuple(_BY_VENDOR)


def statements_for(alias: str, process_id: UUID, release: str, origin: UUID | None = None) -> Statements:
    """
    Return the statements for a database, bound to the calling thread's connection.

    Args:
        process_id: the process whose rows they write.
        origin: the process that counts what they insert, if it is another one.

    Raises:
        NotImplementedError: for a database that bgtasks cannot use yet.
    """
    vendor = connections[alias].vendor
    try:
        kind = _BY_VENDOR[vendor]
    except KeyError:
        raise NotImplementedError(f"bgtasks cannot use {vendor} yet. It can use: {', '.join(_BY_VENDOR)}.") from None
    return kind(alias, process_id, release, origin)


@contextmanager
def bounded_transaction(using: str) -> Iterator[None]:
    """
    Open a transaction whose waits for locks are bounded, for the ORM's statements on the journal's thread.

    Who holds a lock of ours for long must not keep the thread from beating: others would take this process for dead.
    """
    with statements_for(using, UUID(int=0), "").transaction():
        yield


def fired_by(scope: dict[str, Any]) -> str:
    """Return who fired a task, from the ASGI scope of the request, as JSON: method, path and, if sent, request_id."""
    request = {"method": str(scope.get("method", ""))[:20], "path": storable(str(scope.get("path", ""))[:500])}
    for name, value in scope.get("headers", ()):
        if name == b"x-request-id":
            request["request_id"] = storable(value.decode("latin-1")[:200])
            break
    return _dumps(request)
