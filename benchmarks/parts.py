"""
Where the time of a recorded task goes: its parts, each alone.

    python -m benchmarks.parts [--database postgresql] [--quick]

Microseconds per task, of no-ops. The loop: `fire`, the start and the end of thousands of tasks, while their records are
withheld from the journal. The journal: it writes these records, each in its final state, while the loop sleeps. The
part of the database in that: the same rows, prepared before, in transactions of the same size. The floor: the driver
inserts as many rows of one number, in transactions of the same size. The whole: all of it as in production. Loop and
journal share an interpreter: the whole cannot take less than both together, unless one of them waits for the database.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import closing
from typing import Any

import bgtasks
from benchmarks import harness
from benchmarks.harness import POLL_PAUSE, Report, Rows, serve, wait_for
from benchmarks.throughput import time_bare, wait_until_final
from bgtasks.api import get_runner

BATCH = 2000  # Rows in a transaction: the most that the journal writes at once.

ended = 0


@bgtasks.task(name="benchmark.parts.no_op")
async def no_op(number: int) -> None:
    global ended
    ended += 1


async def measure(report: Report, options: harness.Options) -> None:
    tasks = 1000 if options.quick else 10_000
    with harness.watch_rows() as rows:
        await measure_parts(Report(), tasks // 10, rows)  # Warms up.
        for _ in range(options.repeats):
            await measure_parts(report, tasks, rows)


async def measure_parts(report: Report, tasks: int, rows: Rows) -> None:
    def add(way: str, seconds: float) -> None:
        report.add("a no-op", way, "µs", [seconds / tasks * 1e6])

    add("create_task", tasks / await time_bare(no_op.func, tasks))
    async with serve(MAX_RUNNING=tasks):
        seconds, records = await time_loop(tasks)
        add("the loop's part", seconds)
        made = await asyncio.to_thread(make_rows, records)
        add("the journal's part", await time_journal(records, rows))
        add("of it the database's", await asyncio.to_thread(time_database, made))
        rows.delete()
        add("the floor: one column by the driver", time_floor(tasks))
        add("the whole", await time_whole(tasks, rows))
    rows.delete()


async def time_loop(tasks: int) -> tuple[float, list[Any]]:
    """Fire and carry out tasks; return the seconds, and their records, which are not written."""
    journal = get_runner().journal
    records: list[Any] = []
    journal.put = records.append  # type: ignore[method-assign]
    try:
        expected = ended + tasks
        began = time.perf_counter()
        for number in range(tasks):
            bgtasks.fire(no_op, number)
        await wait_for(lambda: ended == expected and not any_runs(records))
        return time.perf_counter() - began, records
    finally:
        del journal.put  # type: ignore[method-assign]


def any_runs(records: list[Any]) -> bool:
    return any(record.is_live for record in records[-10:])


async def time_journal(records: list[Any], rows: Rows) -> float:
    journal = get_runner().journal
    began = time.perf_counter()
    for record in records:
        journal.put(record)
    await wait_for(lambda: not journal.count_unwritten(), POLL_PAUSE / 2)
    seconds = time.perf_counter() - began
    if (count := rows.count("status = 'SUCCESSFUL'")) != len(records):
        raise RuntimeError(f"{count} of {len(records)} tasks are SUCCESSFUL.")
    rows.delete()
    return seconds


def make_rows(records: list[Any]) -> list[Any]:
    statements = make_statements()
    return [statements.insert_row(record, tuple(record.history)) for record in records]


def time_database(made: list[Any]) -> float:
    from django.db import connection

    statements = make_statements()
    try:
        connection.ensure_connection()
        statements.prepare()
        began = time.perf_counter()
        for start in range(0, len(made), BATCH):
            part = made[start : start + BATCH]
            with statements.transaction() as cursor:
                statements.insert(cursor, part)
                statements.count_fired(cursor, len(part))
        return time.perf_counter() - began
    finally:
        connection.close()


def make_statements() -> Any:
    from bgtasks.journal.statements import statements_for

    return statements_for("default", get_runner().state.id, "")


def time_floor(tasks: int) -> float:
    from tests import databases

    mark = "?" if databases.KIND == "sqlite" else "%s"
    with closing(databases.connect(os.environ["BENCHMARKS_DB"])) as connection, closing(connection.cursor()) as cursor:
        cursor.execute("CREATE TABLE benchmark_floor (number INTEGER PRIMARY KEY)")
        try:
            began = time.perf_counter()
            for start in range(0, tasks, BATCH):
                cursor.execute("BEGIN")
                numbers = [(number,) for number in range(start, min(start + BATCH, tasks))]
                cursor.executemany(f"INSERT INTO benchmark_floor VALUES ({mark})", numbers)
                cursor.execute("COMMIT")
            return time.perf_counter() - began
        finally:
            cursor.execute("DROP TABLE benchmark_floor")


async def time_whole(tasks: int, rows: Rows) -> float:
    began = time.perf_counter()
    for number in range(tasks):
        bgtasks.fire(no_op, number)
    await wait_until_final(tasks, rows)
    return time.perf_counter() - began


if __name__ == "__main__":
    harness.main(__doc__, measure)
