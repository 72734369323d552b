"""A table of tasks with a past, and the runtime's queries of it: for the tests of plans and `benchmarks.tables`."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context
from typing import Any
from uuid import UUID

from django.apps import apps
from django.db import connection, transaction
from django.utils import timezone

from bgtasks.conf import get_settings
from bgtasks.definition import Task
from bgtasks.journal.statements import Statements, Wanted, statements_for, to_datetime
from bgtasks.maintenance.claimer import Claimer
from bgtasks.maintenance.pruner import Retention
from bgtasks.maintenance.requests import Requests
from bgtasks.maintenance.services import make_services
from bgtasks.models import BackgroundTask
from bgtasks.process.record import Record
from bgtasks.reports.stuck import Finder
from bgtasks.status import Status
from bgtasks.uuid7 import uuid7_int
from tests.app import tasks

PAST_SECONDS = 30 * 86_400  # The largest age of finished rows; half of them are due to be pruned.
OTHER_PROCESSES = [UUID(int=uuid7_int(number)) for number in range(10)]

_TABLE = BackgroundTask._meta.db_table


class Table:
    """`live` RUNNING rows of one process, and as many READY ones, among rows of others and of the past."""

    def __init__(self, live: int) -> None:
        self.live = live
        self.process_id = UUID(int=uuid7_int(time.time_ns()))
        self.statements: Statements = statements_for("default", self.process_id, "")
        self.statements.prepare()
        self._records: list[Record] = []

    def fill(self, finished: int, waiting: int = 0) -> None:
        """Write the rows, oldest first; `waiting` more are READY."""
        now = time.time()
        ages = sorted((random.uniform(0, PAST_SECONDS) for _ in range(finished)), reverse=True)
        for start in range(0, finished, 5000):
            BackgroundTask.objects.bulk_create([_finished_row(now - age) for age in ages[start : start + 5000]])
        self._write([self._new_record(tasks.sleep, Status.RUNNING) for _ in range(self.live)])
        self._write([self._new_record(tasks.succeed, Status.READY) for _ in range(self.live + waiting)])

    def _new_record(self, task: Task[..., Any], status: Status) -> Record:
        moment = time.time_ns()
        entry = (status, moment / 1e9, int(status is Status.RUNNING), "fired")
        loop: Any = None  # It is never started.
        return Record(uuid7_int(moment), task.name, task, (1,), {}, loop, Context(), entry)

    def _write(self, records: list[Record]) -> None:
        rows = [self.statements.insert_row(record, record.history) for record in records]
        with transaction.atomic(), connection.cursor() as cursor:
            self.statements.insert(cursor, rows)
        for record in records:
            record.written = (record.status, record.attempt)
            if record.status is Status.RUNNING:
                self._records.append(record)

    @property
    def questions(self) -> dict[str, Callable[[], None]]:
        """The runtime's queries by name, in an order in which each finds its rows."""
        return {
            "look for READY": self.look_for_ready,
            "read back": self.read_back,
            "note places": self.note_places,
            "look for requests": self.look_for_requests,
            "look for stuck": self.look_for_stuck,
            "update": self.update,
            "claim": self.claim,
            "prune a batch": self.prune,
            "insert": self.insert,
        }

    def insert(self) -> None:
        self._write([self._new_record(tasks.sleep, Status.RUNNING) for _ in range(self.live)])

    def claim(self) -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            self.statements.begin(cursor)
            found = self.statements.claim(cursor, Wanted(["another", tasks.succeed.name]), self.live, time.time())
        assert len(found) == self.live

    def finish_claimed(self) -> None:
        claimed = BackgroundTask.objects.running().filter(name=tasks.succeed.name)
        claimed.update(status=Status.SUCCESSFUL, finished_at=timezone.now())

    def look_for_ready(self) -> None:
        config: Any = apps.get_app_config("bgtasks")
        runner = config.go_live()
        [claimer] = [service for service in make_services(runner).all if isinstance(service, Claimer)]
        assert claimer.is_anything_ready()

    def update(self) -> None:
        done, self._records = self._records[: self.live], self._records[self.live :]
        for record in done:
            record.history.append((Status.SUCCESSFUL, time.time(), 1, "returned"))
        rows = [self.statements.update_row(record, record.history) for record in done]
        with transaction.atomic(), connection.cursor() as cursor:
            updated = self.statements.update(cursor, rows)
        assert updated == len(done)

    def read_back(self) -> None:
        with connection.cursor() as cursor:
            found = self.statements.read_back(cursor, [record.number for record in self._records])
        assert len(found) == len(self._records)

    def note_places(self) -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            self.statements.note_places(cursor, [("{}", record.number, 1) for record in self._records])

    def look_for_requests(self) -> None:
        config: Any = apps.get_app_config("bgtasks")
        runner = config.go_live()
        [requests] = [service for service in make_services(runner).all if isinstance(service, Requests)]
        runner.slots.take()  # The service looks only while a task runs.
        requests._follow_cancel_requests("default")
        runner.slots.give_back()

    def look_for_stuck(self) -> None:
        found = Finder("default", get_settings(), timezone.now(), older_than=0).find()
        assert len(found) >= self.live

    def prune(self) -> None:
        pruned = Retention("default", get_settings(), timezone.now()).prune_batch(self.live)
        assert 0 < pruned.total() <= self.live


def _finished_row(at: float) -> BackgroundTask:
    status = random.choices([Status.SUCCESSFUL, Status.FAILED, Status.CANCELLED], [96, 3, 1])[0]
    moment = to_datetime(at)
    process = random.choice(OTHER_PROCESSES)
    history = [
        {"status": name, "at": moment.isoformat(), "attempt": 1, "by": str(process), "why": "fired"}
        for name in ("RUNNING", status.value)
    ]
    return BackgroundTask(
        id=UUID(int=uuid7_int(int(at * 1e9))),
        name=f"shop.tasks.number_{random.randrange(20)}",
        status=status,
        args=[random.randrange(1000)],
        attempt=1,
        created_at=moment,
        started_at=moment,
        finished_at=moment,
        process=process,
        origin=process,
        transitions=history,
    )


def analyze() -> None:
    """Have the database take its statistics of the present table."""
    with connection.cursor() as cursor:
        cursor.execute({"mysql": "ANALYZE TABLE "}.get(connection.vendor, "ANALYZE ") + _TABLE)
        if connection.vendor == "mysql":
            cursor.fetchall()


@contextmanager
def frozen_statistics() -> Iterator[None]:
    """Keep the database from taking new statistics by itself."""
    off, on = {
        "postgresql": (f"ALTER TABLE {_TABLE} SET (autovacuum_enabled = {value})" for value in ("false", "true")),
        "mysql": (f"ALTER TABLE {_TABLE} STATS_AUTO_RECALC = {value}" for value in ("0", "DEFAULT")),
        "sqlite": ("SELECT 1", "SELECT 1"),  # SQLite never does.
    }[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(off)
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(on)


def count_work(work: Callable[[], None]) -> int:
    """Return the number of rows that the database reads for a call, by its own count; on SQLite the steps."""
    if connection.vendor == "sqlite":
        return _count_steps(work)
    before = _count_reads()
    work()
    return _count_reads() - before


def _count_reads() -> int:
    with connection.cursor() as cursor:
        if connection.vendor == "mysql":
            cursor.execute("SHOW SESSION STATUS LIKE 'Handler_read%'")
            return sum(int(row[1]) for row in cursor.fetchall())
        # Report the counts of this session, and read the present counts of all sessions.
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute(
            "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables WHERE relname = %s", [_TABLE]
        )
        tables = int(cursor.fetchone()[0])
        cursor.execute("SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = %s", [_TABLE])
        return tables + int(cursor.fetchone()[0])


def _count_steps(work: Callable[[], None]) -> int:
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return 0

    connection.ensure_connection()
    connection.connection.set_progress_handler(step, 1)
    try:
        work()
    finally:
        connection.connection.set_progress_handler(None, 0)
    return count
