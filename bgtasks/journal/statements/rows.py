"""Rows: records as tuples for the database's driver, in one shape for most of them and one for the rest."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.db import connections

from ...failure import Failure, storable
from ...models.moments import stamp, to_datetime
from ...process.extras import Extras, Progress
from ...process.record import Entry, Record
from ...status import Status

Row = tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Shape:
    """The columns of one kind of rows, in the order of their values."""

    inserted: tuple[str, ...]
    constants: Mapping[str, Any]  # Of columns that may not be NULL and have no value in the row.
    changed: tuple[str, ...]  # By an update; FENCE follows them.


_CHANGED = (
    "status", "attempt", "started_at", "finished_at", "process", "error_type", "error_message", "traceback",
    "error_fingerprint", "result", "transitions",
)  # fmt: skip
_CHANGED_OPTIONS = ("live_key", "run_after", "progress", "checkpoint")

# Most rows have no value in the columns of options, so unused options take no time.
PLAIN = Shape(
    (
        "id", "name", "args", "kwargs", "on_lost", "stuck_after", "max_attempts", "created_at", "origin", "fired_by",
        "release", "signature_fingerprint", "is_task_function", *_CHANGED,
    ),
    {"priority": 0, "queue_name": "default", "key": "", "rate_key": ""},
    _CHANGED,
)  # fmt: skip
FULL = Shape(
    (*PLAIN.inserted, "priority", "queue_name", "options", "key", "unique_for", "rate_key", *_CHANGED_OPTIONS),
    {},
    (*_CHANGED, *_CHANGED_OPTIONS),
)
UNCHANGED_BY_NULL = frozenset({"run_after", "progress", "checkpoint"})  # An update with NULL leaves them as they are.
FENCE = ("id", "process", "attempt", "status")  # The row must be as this process left it.

_NO_FAILURE = ("", "", "", "")


def shape_of(record: Record) -> Shape:
    return PLAIN if record.extras is None else FULL


class Rows:
    """Makes rows for one database and one process."""

    takes_iso_text = False  # Whether its columns have time zones, and so take a moment as the text in the history.

    def __init__(self, alias: str, process_id: UUID, release: str, origin: UUID | None) -> None:
        self.alias = alias
        self.connection = connections[alias]
        self._process = process_id.hex
        self._origin = (origin or process_id).hex
        self._by = f'"{process_id}"'
        self._release = release
        # Django stores a moment in SQLite and MariaDB as text in UTC, unless the project stores local times.
        self._takes_utc_text = self.connection.timezone is UTC

    def moment(self, seconds: float) -> Any:
        """Return a moment in seconds since the epoch as a parameter for the database."""
        return self._moment(seconds, stamp(seconds))

    def _moment(self, seconds: float, text: str) -> Any:
        if self.takes_iso_text:
            return text
        if self._takes_utc_text:
            return text.removesuffix("+00:00").replace("T", " ")
        return self.connection.ops.adapt_datetimefield_value(to_datetime(seconds))

    def transition(self, entry: Entry) -> str:
        """Return an entry of a history as JSON."""
        before, after = _around_stamp(entry[0]._value_, entry[2], self._by, entry[3])
        return f"{before}{stamp(entry[1])}{after}"

    def _transitions(self, record: Record, entries: Sequence[Entry], stamps: Sequence[str]) -> str:
        new = []
        for (status, _, attempt, why), text in zip(entries, stamps, strict=True):
            before, after = _around_stamp(status._value_, attempt, self._by, why)
            new.append(f"{before}{text}{after}")
        if record.offset or record.prior:
            new[: record.offset] = [json.dumps(entry) for entry in record.prior]
        return f"[{', '.join(new)}]"

    def insert_row(
        self, record: Record, entries: Sequence[Entry], extras: Extras | None = None, is_counted: bool = True
    ) -> Row:
        """
        Return the values of `Shape.inserted`.

        Args:
            extras: those of the record, read once by the caller: its loop may give it some at any moment.
            is_counted: whether this process counts the task as fired, in the same transaction.
        """
        task = record.task
        args, kwargs = record.encode_arguments()
        stamps = [stamp(entry[1]) for entry in entries]
        row = (
            f"{record.number:032x}",
            record.name,
            args,
            kwargs,
            record.on_lost,
            task.stuck_after if task is not None else None,
            task.max_attempts if task is not None and not record.is_stripped else 1,
            self._moment(entries[0][1], stamps[0]),
            self._origin if is_counted else None,
            fired_by(record.scope) if record.scope is not None else None,
            self._release,
            task.signature_fingerprint if task is not None else "",
            task is not None,
            *self._changes(record, entries, stamps),
        )
        if extras is None:
            return row
        fixed = extras.priority, extras.queue, extras.options, extras.key, extras.unique_for, extras.rate_key
        return (*row, *fixed, *self._extra_changes(extras, entries[-1]))

    def update_row(self, record: Record, entries: Sequence[Entry], extras: Extras | None = None) -> Row:
        """Return the values of `Shape.changed` and of FENCE."""
        assert record.written is not None  # Only inserted rows are updated.
        stamps = [stamp(entry[1]) for entry in entries]
        return (
            *self._changes(record, entries, stamps),
            *(() if extras is None else self._extra_changes(extras, entries[-1])),
            f"{record.number:032x}",
            self._process,
            record.written[1],
            record.written[0]._value_,
        )

    def _changes(self, record: Record, entries: Sequence[Entry], stamps: Sequence[str]) -> Row:
        """Return the values of `PLAIN.changed`."""
        status, at, attempt, _ = entries[-1]
        is_finished = True
        owner: str | None = self._process
        failure = result = None
        if status is Status.SUCCESSFUL:
            result = record.result_text
        elif status is Status.FAILED:
            failure = record.failure
        elif status is Status.RUNNING:
            is_finished = False
        elif status is Status.READY:
            is_finished = False
            failure = record.failure  # Of the last attempt, while the task waits for the next one.
            if record.task is not None:  # Only this process can start a coroutine object; any process a task function.
                owner = None
        return (
            status._value_,
            attempt,
            self._started_at(entries, stamps),
            self._moment(at, stamps[-1]) if is_finished else None,
            owner,
            *(_NO_FAILURE if failure is None else _failure_columns(failure)),
            result,
            self._transitions(record, entries, stamps),
        )

    def _started_at(self, entries: Sequence[Entry], stamps: Sequence[str]) -> Any:
        """Return the start of the last attempt, None without an attempt."""
        running = Status.RUNNING
        for index in range(len(entries) - 1, -1, -1):
            if entries[index][0] is running:
                return self._moment(entries[index][1], stamps[index])
        return None

    def _extra_changes(self, extras: Extras, entry: Entry) -> Row:
        """Return the values of the columns of options that an update may change."""
        status, _, attempt, _ = entry
        has_key = extras.key and (
            status is Status.RUNNING
            or status is Status.READY
            or (extras.unique_for is not None and attempt > 0)  # It counts from the end of a task that was carried out.
        )
        run_after = None if extras.run_after is None else self.moment(extras.run_after)
        return extras.key if has_key else None, run_after, _progress(extras.told), extras.checkpoint


def _failure_columns(failure: Failure) -> tuple[str, str, str, str]:
    return failure.type, failure.message, failure.traceback, failure.fingerprint


def _progress(reported: Progress | None) -> str | None:
    """Return the last progress of a task as JSON. It is made only when it is written: most reports never are."""
    if reported is None:
        return None
    done, total, note, at = reported
    return json.dumps({"done": done, "total": total, "note": storable(note), "at": stamp(at)})


@lru_cache(200)  # Most histories have the same reasons: "fired", "started", "returned".
def _around_stamp(status: str, attempt: int, by: str, why: str) -> tuple[str, str]:
    """Return the JSON of an entry of a history before and after its moment."""
    return (
        f'{{"status": "{status}", "at": "',
        f'", "attempt": {attempt}, "by": {by}, "why": {json.dumps(why)}}}',
    )


def fired_by(scope: dict[str, Any]) -> str:
    """Return the request that fired a task, as JSON: method, path and, if it was sent, request_id."""
    request = {"method": str(scope.get("method", ""))[:20], "path": storable(str(scope.get("path", ""))[:500])}
    for name, value in scope.get("headers", ()):
        if name == b"x-request-id":
            request["request_id"] = storable(value.decode("latin-1")[:200])
            break
    return json.dumps(request)


def number_of(value: Any) -> int:
    return value.int if isinstance(value, UUID) else int(str(value).replace("-", ""), 16)
