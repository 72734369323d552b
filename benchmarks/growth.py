"""
The cost of finished rows: the same operations on an empty table and on large ones.

    python -m benchmarks.growth [--database postgresql] [--finished 0 10000 1000000] [--quick]

Each size has its own database and process. All of them exist at the same time, and take turns in every repeat, so that
a ratio to the first size does not compare two moments. At the end each operation is done once more while the database
counts the rows that it reads (SQLite: its steps). The throughput is left out there, since its statements run on other
connections.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.utils import timezone

import bgtasks
from benchmarks import harness
from benchmarks.harness import POLL_PAUSE, Child, Report, reply, run_child, serve, use_database, wait_for
from benchmarks.seed_rows import settle

if TYPE_CHECKING:
    from django.test import Client  # Needs the settings.

SIZES = [0, 10_000, 100_000, 1_000_000]
QUICK_SIZES = [0, 1000, 10_000]
LIVE = 100  # RUNNING rows, and as many READY ones, for the claim, the rescue and the stuck tasks.
RECENT = 10  # Seconds. Every size has about as many rows of this time.
THROUGHPUT = "throughput"


@bgtasks.task(name="benchmark.growth.no_op")
async def no_op(number: int) -> None:
    pass


async def measure(report: Report, options: harness.Options) -> None:
    sizes = options.finished or (QUICK_SIZES if options.quick else SIZES)
    fired = 300 if options.quick else 3000
    with ExitStack() as stack:
        past = {size: stack.enter_context(Child("growth", "child", options.database, size, fired)) for size in sizes}
        for one in past.values():
            one.ask("operate")  # Warms up.
        for repeat in range(options.repeats):
            # In alternating order, so that no size always has the cold caches.
            for size, one in list(past.items())[:: -1 if repeat % 2 else 1]:
                for operation, figure in one.ask("operate").items():
                    unit = "tasks/s" if operation == THROUGHPUT else "µs"
                    report.add(operation, f"{size:,} finished rows", unit, [figure])
        unit = "steps" if options.database == "sqlite" else "rows"
        for size, one in past.items():
            for operation, count in one.ask("count").items():
                report.add(f"{operation}: {unit} read", f"{size:,} finished rows", unit, [count])


# In a process of its own.


def answer(finished: int, fired: int) -> None:
    fill(finished)
    client = log_in()
    reply({})
    for line in sys.stdin:
        began = new_id()
        found: dict[str, float] = {}
        match line.strip():
            case "operate":
                found[THROUGHPUT] = asyncio.run(measure_throughput(fired))
                delete_since(began)
                found |= {operation: clock(work) for operation, work in make_operations(client).items()}
            case "count":
                found = {operation: count(work) for operation, work in make_operations(client).items()}
            case "start":
                found = run_child("drain", "start")
        delete_since(began)
        reply(found)


def clock(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1e6


def count(work: Callable[[], Any]) -> float:
    from tests import tables  # Needs the settings, like the imports below.

    return tables.count_work(work)


def fill(finished: int) -> None:
    from tests import tables

    tables.Table(live=0).fill(finished)
    settle()


def log_in() -> Client:
    from django.contrib.auth.models import User
    from django.test import Client

    client = Client()
    client.force_login(User.objects.create_superuser("benchmark"))
    return client


def make_operations(client: Client) -> dict[str, Callable[[], Any]]:
    """Write live rows, and return the operations, in an order in which each finds the rows that it needs."""
    from bgtasks.conf import get_settings
    from bgtasks.maintenance.rescue import Look, rescue
    from bgtasks.reports.audit import Auditor
    from tests import tables

    auditor = Auditor("default", get_settings())
    table = tables.Table(LIVE)
    table.fill(0)

    def look_at_admin() -> None:
        status = client.get("/admin/bgtasks/backgroundtask/").status_code
        assert status == 200, status

    def rescue_a_batch() -> None:
        verdicts = next(rescue("default", table.process_id, "benchmark"))
        assert len(verdicts) == LIVE, len(verdicts)

    return {
        "look of the rescuer": lambda: Look("default", None),
        "stuck_tasks": table.look_for_stuck,
        "audit_tasks": auditor.audit,
        f"audit_tasks --since {RECENT}": lambda: auditor.audit(timezone.now() - timedelta(seconds=RECENT)),
        "the admin's list": look_at_admin,
        "look of the claimer": table.look_for_ready,
        f"claim {LIVE}": table.claim,
        f"rescue {LIVE}": rescue_a_batch,
    }


async def measure_throughput(tasks: int) -> float:
    """Return the tasks per second, from the first call until all rows are final."""
    id_ = new_id()
    written = id_.hex if os.environ["TESTS_DB"] == "sqlite" else str(id_)
    since = f"status = 'SUCCESSFUL' AND id >= '{written}'"
    with harness.watch_rows() as rows:
        async with serve():
            began = time.perf_counter()
            for number in range(tasks):
                bgtasks.fire(no_op, number)
            await wait_for(lambda: bgtasks.pending_task_count() == 0, POLL_PAUSE / 2)
            await wait_for(lambda: rows.count(since) == tasks, POLL_PAUSE)  # Reads by primary key, and no other rows.
            return tasks / (time.perf_counter() - began)


def new_id() -> UUID:
    """Return an id that precedes all later ones, since ids are ordered by time."""
    from bgtasks.uuid7 import uuid7_int

    return UUID(int=uuid7_int(time.time_ns()))


def delete_since(began: UUID) -> None:
    from bgtasks.models import BackgroundTask

    rows = BackgroundTask.objects.filter(pk__gte=began)
    rows._raw_delete(rows.db)  # One statement: the ORM would fetch the rows first.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--finished", type=int, nargs="+", help="numbers of finished rows (default 0, 10⁴, 10⁵, 10⁶; quick 0, 10³, 10⁴)"
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        with use_database(sys.argv[2]):
            answer(int(sys.argv[3]), int(sys.argv[4]))
    else:
        harness.main(__doc__, measure, repeats=9, add_arguments=add_arguments)
