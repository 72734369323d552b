"""What records become as rows: tuples of what the database's driver takes, one shape for most and one for the rest."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.db import connections

from ...failure import storable
from ...models.moments import stamp, to_datetime
from ...process.extras import Extras
from ...process.record import Entry, Record
from ...status import Status

Row = tuple[Any, ...]

# Looking a member up on its class takes longer than the rest of a comparison.
READY, RUNNING, SUCCESSFUL, FAILED = Status.READY, Status.RUNNING, Status.SUCCESSFUL, Status.FAILED

_dumps = json.dumps


@dataclass(frozen=True, eq=False)
class Shape:
    """The columns that rows of a kind have values for."""

    inserted: tuple[str, ...]
    constants: Mapping[str, Any]  # Of the columns that an insert leaves out and that may not be NULL.
    changed: tuple[str, ...]


# What a task does not use costs it nothing: most rows have none of the columns that only options need.
PLAIN = Shape(
    (
        "id", "name", "status", "args", "kwargs", "on_lost", "stuck_after", "attempt", "max_attempts", "created_at",
        "started_at", "finished_at", "process", "origin", "error_type", "error_message", "traceback",
        "error_fingerprint", "result", "transitions", "fired_by", "release", "signature_fingerprint",
        "is_task_function",
    ),
    {"priority": 0, "queue_name": "default", "key": "", "rate_key": ""},
    (
        "status", "attempt", "started_at", "finished_at", "process", "error_type", "error_message", "traceback",
        "error_fingerprint", "result", "transitions",
    ),
)  # fmt: skip
FULL = Shape(
    (
        *PLAIN.inserted, "priority", "queue_name", "options", "key", "unique_for", "rate_key", "live_key", "run_after",
        "progress", "checkpoint",
    ),
    {},
    (*PLAIN.changed, "live_key", "run_after", "progress", "checkpoint"),
)  # fmt: skip
# None for one of these means that it stays as it is.
KEPT = frozenset({"run_after", "progress", "checkpoint"})
FENCE = ("id", "process", "attempt", "status")


def shape_of(record: Record) -> Shape:
    return PLAIN if record.extras is None else FULL


class Rows:
    """Makes rows for one database and one process."""

    takes_iso_text = False  # Whether its columns know of time zones, and so take a moment as it stands in the history.

    def __init__(self, alias: str, process_id: UUID, release: str, origin: UUID | None) -> None:
        self.alias = alias
        self.connection = connections[alias]
        self._process = process_id.hex
        self._origin = (origin or process_id).hex
        self._by = f'"{process_id}"'
        self._release = release
        # What Django makes of a moment for SQLite and MariaDB, unless the project keeps local times: its text in UTC.
        self._takes_utc_text = self.connection.timezone is UTC

    def moment(self, seconds: float) -> Any:
        """Return a moment in seconds since the epoch as the database takes it."""
        return self._moment(seconds, stamp(seconds))

    def _moment(self, seconds: float, text: str) -> Any:
        if self.takes_iso_text:
            return f"{text}+00:00"
        if self._takes_utc_text:
            return text.replace("T", " ")
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
            new[: record.offset] = [_dumps(entry) for entry in record.prior]
        return f"[{', '.join(new)}]"

    def _times(self, entries: Sequence[Entry], stamps: Sequence[str]) -> tuple[Any, Any]:
        """Return when the last attempt started and when the task finished, each None if it did not."""
        last, ended, _, _ = entries[-1]
        finished = None if last is RUNNING or last is READY else self._moment(ended, stamps[-1])
        for index in range(len(entries) - 1, -1, -1):
            if entries[index][0] is RUNNING:
                return self._moment(entries[index][1], stamps[index]), finished
        return None, finished

    def _owner(self, record: Record, status: Status) -> str | None:
        """READY has no owner, but for a coroutine object, which only this process can start."""
        return None if status is READY and record.task is not None else self._process

    @staticmethod
    def _failure(record: Record, status: Status) -> tuple[str, str, str, str]:
        # One that waits for its next attempt shows how the last one failed.
        failure = record.failure if status is FAILED or status is READY else None
        if failure is None:
            return "", "", "", ""
        return failure.type, failure.message, failure.traceback, failure.fingerprint

    def insert_row(
        self, record: Record, entries: Sequence[Entry], extras: Extras | None = None, is_counted: bool = True
    ) -> Row:
        """
        Return what to insert.

        Args:
            extras: those of the record, looked at once: its loop may give it some at any moment.
            is_counted: whether this process counts it as fired, in the same transaction.
        """
        status, _, attempt, _ = entries[-1]
        task = record.task
        args, kwargs = record.encode_arguments()
        stamps = [stamp(entry[1]) for entry in entries]
        started, finished = self._times(entries, stamps)
        row = (
            f"{record.number:032x}",
            record.name,
            status._value_,
            args,
            kwargs,
            record.on_lost,
            task.stuck_after if task is not None else None,
            attempt,
            task.max_attempts if task is not None and not record.is_stripped else 1,
            self._moment(entries[0][1], stamps[0]),
            started,
            finished,
            self._owner(record, status),
            self._origin if is_counted else None,
            *self._failure(record, status),
            record.result_text if status is SUCCESSFUL else None,
            self._transitions(record, entries, stamps),
            fired_by(record.scope) if record.scope is not None else None,
            self._release,
            task.signature_fingerprint if task is not None else "",
            task is not None,
        )
        if extras is None:
            return row
        fixed = extras.priority, extras.queue, extras.options, extras.key, extras.unique_for, extras.rate_key
        return (*row, *fixed, *self._extra_changes(extras, status, attempt))

    def _extra_changes(self, extras: Extras, status: Status, attempt: int) -> Row:
        # `unique_for` counts from the end of a task that was carried out.
        stays_taken = extras.unique_for is not None and attempt > 0
        is_taken = extras.key and (status is RUNNING or status is READY or stays_taken)
        run_after = None if extras.run_after is None else self.moment(extras.run_after)
        return extras.key if is_taken else None, run_after, extras.progress, extras.checkpoint

    def update_row(self, record: Record, entries: Sequence[Entry], extras: Extras | None = None) -> Row:
        status, _, attempt, _ = entries[-1]
        assert record.written is not None  # Only what was inserted is updated.
        stamps = [stamp(entry[1]) for entry in entries]
        return (
            status._value_,
            attempt,
            *self._times(entries, stamps),
            self._owner(record, status),
            *self._failure(record, status),
            record.result_text if status is SUCCESSFUL else None,
            self._transitions(record, entries, stamps),
            *(() if extras is None else self._extra_changes(extras, status, attempt)),
            f"{record.number:032x}",
            self._process,
            record.written[1],
            record.written[0]._value_,
        )


@lru_cache(200)  # Most histories say the same: "fired", "started", "returned".
def _around_stamp(status: str, attempt: int, by: str, why: str) -> tuple[str, str]:
    """Return what comes before and after the moment in an entry of a history, as JSON."""
    return (
        f'{{"status": "{status}", "at": "',
        f'+00:00", "attempt": {attempt}, "by": {by}, "why": {_dumps(why)}}}',
    )


def fired_by(scope: dict[str, Any]) -> str:
    """Return who fired a task, from the ASGI scope of the request, as JSON: method, path and, if sent, request_id."""
    request = {"method": str(scope.get("method", ""))[:20], "path": storable(str(scope.get("path", ""))[:500])}
    for name, value in scope.get("headers", ()):
        if name == b"x-request-id":
            request["request_id"] = storable(value.decode("latin-1")[:200])
            break
    return _dumps(request)
