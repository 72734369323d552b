"""
The cost of a live task: bytes, threads, connections.

    python -m benchmarks.memory [--database postgresql] [--quick]

Bytes: the growth of the resident memory (RSS) and of the memory that Python allocated (tracemalloc), per task, in a
process with many sleeping tasks, once all rows are written. Each kind has its own process. Then 1,000 tasks make ORM
calls: the highest numbers of threads and connections of the process, those from before, and those that are left after
two seconds.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import threading
import tracemalloc
import weakref
from collections.abc import Callable
from typing import Any

import django
import psutil
from django.db.backends.signals import connection_created

import bgtasks
from benchmarks import harness
from benchmarks.harness import Report, create_bare, run_child, serve, wait_for

SLEEP = 3600.0  # Seconds: longer than every measure.
ORM_TASKS = 1000
ORM_CALLS = 3  # In each of these tasks.
IDLE = 2.0  # Seconds after which no connection of a lane is open any more.
GAUGES = ("RSS", "tracemalloc")
WAYS = ("create_task", "fire")


async def sleep(number: int) -> None:
    await asyncio.sleep(SLEEP)


async def use_orm(number: int) -> None:
    from bgtasks.models import BackgroundTask  # Needs the settings.

    for _ in range(ORM_CALLS):
        await BackgroundTask.objects.acount()


recorded_sleep = bgtasks.task(name="benchmark.memory.sleep_long")(sleep)
recorded_use_orm = bgtasks.task(name="benchmark.memory.use_orm")(use_orm)


async def measure(report: Report, options: harness.Options) -> None:
    tasks = 10_000 if options.quick else 100_000
    for _ in range(options.repeats):
        for gauge in GAUGES:
            for way in WAYS:
                found = await ask_child(way, gauge, tasks)
                report.add(f"{gauge} per live task, of {tasks:,}", way, "bytes", [found["bytes"] / tasks])
        for way in WAYS:
            for what, count in (await ask_child(way, "orm", ORM_TASKS)).items():
                report.add(f"{ORM_TASKS:,} tasks with ORM calls: {what}", way, "", [count])


async def ask_child(way: str, what: str, tasks: int) -> dict[str, float]:
    found = await asyncio.to_thread(run_child, "memory", way, what, tasks)
    with harness.watch_rows() as rows:
        rows.delete()
        rows.delete("bgtasks_process")
    return found


wrappers: weakref.WeakSet[Any] = weakref.WeakSet()  # Django's connections of all threads.


def remember(connection: Any, **kwargs: object) -> None:
    wrappers.add(connection)


# In a process of its own, which ends at once, without a drain: `benchmarks.drain` measures that.


async def answer(way: str, what: str, tasks: int) -> None:
    if what == "tracemalloc":
        tracemalloc.start()
    async with serve(MAX_RUNNING=max(tasks + 1, 500)):
        found = await (count_open(way, tasks) if what == "orm" else weigh(way, what, tasks))
        print(json.dumps(found), flush=True)
        os._exit(0)


async def weigh(way: str, gauge: str, tasks: int) -> dict[str, float]:
    """Return the bytes by which this process grows with so many live tasks, once their rows are written."""
    await bgtasks.afire(recorded_sleep, 0)  # Starts the threads and imports their modules.
    before = read(gauge)
    for number in range(tasks):
        start(way, sleep, recorded_sleep, number)
        if number % 100 == 0:
            await asyncio.sleep(0)
    if way == "fire":
        with harness.watch_rows() as rows:
            await wait_for(lambda: rows.count("status = 'RUNNING'") == tasks + 1, 0.2)
    return {"bytes": read(gauge) - before}


async def count_open(way: str, tasks: int) -> dict[str, float]:
    """Return the highest numbers of threads and connections while tasks use the ORM, and those left afterwards."""
    threads, connections = threading.active_count(), count_connections()
    most_threads, most_connections = threads, connections
    for number in range(tasks):
        start(way, use_orm, recorded_use_orm, number)
    while harness.strong_references or bgtasks.pending_task_count():
        await asyncio.sleep(0.02)
        most_threads = max(most_threads, threading.active_count())
        most_connections = max(most_connections, count_connections())
    await asyncio.sleep(IDLE)
    return {
        "threads before": threads,
        "most threads": most_threads,
        "connections before": connections,
        "most connections": most_connections,
        f"connections after {IDLE:.0f} s": count_connections(),
    }


def start(way: str, function: Callable[[int], Any], recorded: Any, number: int) -> None:
    if way == "fire":
        bgtasks.fire(recorded, number)
    else:
        create_bare(function(number))


def read(gauge: str) -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0] if gauge == "tracemalloc" else int(psutil.Process().memory_info().rss)


def count_connections() -> int:
    """
    Count all connections to the database; on SQLite those that Django has open in this process.

    The open files would be misleading: SQLite keeps the file of a closed connection for the next one.
    """
    from tests import databases  # Reads the environment.

    name = os.environ["BENCHMARKS_DB"]
    if databases.KIND != "sqlite":
        return databases.count_connections(name)
    return sum(wrapper.connection is not None for wrapper in list(wrappers))


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1] in WAYS:
        django.setup()
        connection_created.connect(remember)
        asyncio.run(answer(sys.argv[1], sys.argv[2], int(sys.argv[3])))
    harness.main(__doc__, measure)
