"""The journal's SQL, for one row and for many: each database has its own statements for many."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextvars import Context
from typing import Any
from uuid import UUID

import pytest
from django.db import Error, IntegrityError, connection

from bgtasks.failure import Failure
from bgtasks.journal.statements import MANY, Disowned, Statements, statements_for
from bgtasks.models import BackgroundTask, Process
from bgtasks.process.record import Record
from bgtasks.status import Status
from bgtasks.uuid7 import uuid7, uuid7_int
from tests.app import tasks

pytestmark = pytest.mark.django_db(transaction=True)

COUNTS = [1, MANY - 1, MANY, 3 * MANY]
HOSTILE = [
    "plain",
    "tab\tnewline\nreturn\r",
    "back\\slash \\N \\. \\\\",
    "'\"`; DROP TABLE",
    "%s %(x)s {}",
    "ünï→🐍",
    "",
    "a" * 900,
]


@pytest.fixture
def process() -> UUID:
    return uuid7()


@pytest.fixture
def statements(process: UUID) -> Statements:
    return statements_for("default", process, "release")


def make_records(count: int, **changes: Any) -> list[Record]:
    records = []
    for number in range(count):
        now = time.time_ns()
        args = (number, HOSTILE[number % len(HOSTILE)])
        entry = (Status.RUNNING, now / 1e9, 1, "fired")
        records.append(Record(uuid7_int(now), tasks.mark.name, tasks.mark, args, {}, LOOP, Context(), entry))
        vars(records[-1]).update(changes)
    return records


LOOP = asyncio.new_event_loop()
LOOP.close()  # Nothing runs here.


def insert(statements: Statements, records: list[Record]) -> int:
    with statements.transaction() as cursor:
        return statements.insert(cursor, [statements.insert_row(record, record.history) for record in records])


def finish(statements: Statements, records: list[Record]) -> int:
    for number, record in enumerate(records):
        record.written = (Status.RUNNING, 1)
        text = HOSTILE[number % len(HOSTILE)]
        record.failure = Failure("ValueError", text, f"Traceback\n{text}", "print")
        record.history.append((Status.FAILED, time.time(), 1, f"raised {text}"))
    with statements.transaction() as cursor:
        return statements.update(cursor, [statements.update_row(record, record.history) for record in records])


@pytest.mark.parametrize("count", COUNTS)
def test_rows_hold_what_was_given(statements: Statements, process: UUID, count: int):
    records = make_records(count)

    assert insert(statements, records) == count
    rows = BackgroundTask.objects.in_bulk([record.id for record in records])
    for record in records:
        row = rows[record.id]
        assert (row.name, row.status, row.args, row.attempt) == (record.name, "RUNNING", list(record.args), 1)
        assert (row.process, row.origin, row.release, row.priority, row.queue_name, row.key) == (
            process, process, "release", 0, "default", "",
        )  # fmt: skip
        assert abs(row.created_at.timestamp() - record.history[0][1]) < 2e-6
        assert (row.finished_at, row.result) == (None, None)

    assert finish(statements, records) == count
    rows = BackgroundTask.objects.in_bulk([record.id for record in records])
    for number, record in enumerate(records):
        row, text = rows[record.id], HOSTILE[number % len(HOSTILE)]
        assert (row.status, row.error_message, row.traceback) == ("FAILED", text, f"Traceback\n{text}")
        assert [entry["why"] for entry in row.transitions] == ["fired", f"raised {text}"]
        assert row.finished_at.isoformat() == row.transitions[-1]["at"]


@pytest.mark.parametrize("count", COUNTS)
def test_what_is_there_already_is_left_alone(statements: Statements, count: int):
    """After a lost answer to a COMMIT some rows exist, some do not."""
    records = make_records(count)
    insert(statements, records[::2])
    BackgroundTask.objects.update(error_message="untouched")

    assert insert(statements, records) == count // 2
    assert BackgroundTask.objects.count() == count
    assert BackgroundTask.objects.filter(error_message="untouched").count() == len(records[::2])


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(
    "verdict", [{"status": "LOST"}, {"attempt": 2}, {"process": UUID(int=7)}, {"process": None}], ids=str
)
def test_a_verdict_that_came_first_stands(statements: Statements, count: int, verdict: dict[str, Any]):
    records = make_records(count)
    insert(statements, records)
    BackgroundTask.objects.filter(pk=records[-1].id).update(**verdict)

    assert finish(statements, records) == count - 1
    left = BackgroundTask.objects.get(pk=records[-1].id)
    assert {name: getattr(left, name) for name in verdict} == verdict
    assert left.finished_at is None


@pytest.mark.parametrize("count", COUNTS)
def test_one_that_is_refused_leaves_nothing_of_its_batch(statements: Statements, count: int):
    records = make_records(count)
    records[-1].encoded = ("no JSON", "{}")
    Process.objects.create(pk=uuid7(), pid=1, started_at="2026-01-01T00:00:00Z")

    with pytest.raises((Error, IntegrityError)):
        insert(statements, records)

    assert not BackgroundTask.objects.exists()


def begin_together(statements: Statements, inserts: list[Record], updates: list[Record]) -> bool:
    made = [statements.insert_row(record, record.history) for record in inserts]
    changed = [statements.update_row(record, record.history) for record in updates]
    return statements.begin_together(made, changed)


def make_finished(statements: Statements, count: int) -> list[Record]:
    """Make records that were written as RUNNING and have ended since."""
    records = make_records(count)
    insert(statements, records)
    for record in records:
        record.written = (Status.RUNNING, 1)
        record.history.append((Status.SUCCESSFUL, time.time(), 1, "returned"))
    return records


@pytest.fixture
def registered(process: UUID, transactional_db: None) -> UUID:
    return Process.objects.create(pk=process, pid=1, started_at="2026-01-01T00:00:00Z").pk


HAS_A_FASTER_WAY = connection.vendor == "postgresql"


@pytest.mark.parametrize("count", COUNTS)
def test_a_batch_written_together(statements: Statements, registered: UUID, count: int):
    """One commit writes all rows and the count of fired tasks. A database without this way writes none."""
    former, new = make_finished(statements, count), make_records(count)

    assert begin_together(statements, new, former) is HAS_A_FASTER_WAY
    if HAS_A_FASTER_WAY:
        statements.commit()

    counts = Counter(BackgroundTask.objects.values_list("status", flat=True))
    assert counts == ({"SUCCESSFUL": count, "RUNNING": count} if HAS_A_FASTER_WAY else {"RUNNING": count})
    assert Process.objects.get(pk=registered).fired_count == (count if HAS_A_FASTER_WAY else 0)
    rows = BackgroundTask.objects.in_bulk([record.id for record in new])
    assert all(rows[record.id].args == list(record.args) for record in new if record.id in rows)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("fault", ["there already", "a verdict came first"])
def test_a_batch_that_does_not_match_is_not_written_together(
    statements: Statements, registered: UUID, count: int, fault: str
):
    """No row is written, and the connection is free to write them one by one."""
    former, new = make_finished(statements, count), make_records(count)
    if fault == "there already":
        insert(statements, new[-1:])
    else:
        BackgroundTask.objects.filter(pk=former[-1].id).update(status="LOST")
    before = Counter(BackgroundTask.objects.values_list("status", flat=True))

    assert not begin_together(statements, new, former)

    with statements.transaction():
        assert Counter(BackgroundTask.objects.values_list("status", flat=True)) == before
    assert Process.objects.get(pk=registered).fired_count == 0


def test_the_dead_write_nothing_together(statements: Statements, registered: UUID):
    Process.objects.update(state="DEAD")
    records = make_records(1)

    if HAS_A_FASTER_WAY:
        with pytest.raises(Disowned):
            begin_together(statements, records, [])

    assert not BackgroundTask.objects.exists()
