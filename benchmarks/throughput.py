"""
How many tasks per second are fired, carried out and final in their rows.

    python -m benchmarks.throughput [--database postgresql] [--quick]

The time is from the first call until no row is live and all are SUCCESSFUL. Each measure is compared with bare tasks,
which leave no trace. Tasks that wait are written twice, as RUNNING and as SUCCESSFUL. For them MAX_RUNNING is raised to
the number of tasks: with the default of 500 the rest would wait in the table.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import bgtasks
from benchmarks import harness
from benchmarks.harness import POLL_PAUSE, Report, Rows, create_bare, serve, strong_references, wait_for

SLEEP = 0.05  # Seconds.

gate = asyncio.Event()


async def no_op(number: int) -> None:
    pass


async def sleep(number: int) -> None:
    await asyncio.sleep(SLEEP)


async def wait_at_gate(number: int) -> None:
    await gate.wait()


recorded_no_op = bgtasks.task(name="benchmark.throughput.no_op")(no_op)
recorded_sleep = bgtasks.task(name="benchmark.throughput.sleep")(sleep)
recorded_wait = bgtasks.task(name="benchmark.throughput.wait_at_gate")(wait_at_gate)


async def measure(report: Report, options: harness.Options) -> None:
    few, many = (100, 1000) if options.quick else (1000, 10_000)
    with harness.watch_rows() as rows:
        await time_fired(recorded_no_op, few, rows)  # Warms up: imports, threads, connections.
        for _ in range(options.repeats):
            await measure_no_op(report, many, rows)
            for tasks in (few, many):
                await measure_sleep(report, tasks, rows)


async def measure_no_op(report: Report, tasks: int, rows: Rows) -> None:
    measure = f"{tasks:,} no-ops"
    report.add(measure, "create_task", "tasks/s", [await time_bare(no_op, tasks)])
    report.add(measure, "fire, default settings", "tasks/s", [await time_fired(recorded_no_op, tasks, rows)])
    raised = f"fire, MAX_RUNNING {tasks}"
    speed = await time_fired(recorded_no_op, tasks, rows, MAX_RUNNING=tasks)
    report.add(measure, raised, "tasks/s", [speed])
    report.add(measure, f"{raised}, two writes each", "tasks/s", [await time_two_writes(tasks, rows)])


async def measure_sleep(report: Report, tasks: int, rows: Rows) -> None:
    measure = f"{tasks:,} × {SLEEP * 1000:.0f} ms"
    report.add(measure, "create_task", "tasks/s", [await time_bare(sleep, tasks)])
    speed = await time_fired(recorded_sleep, tasks, rows, MAX_RUNNING=tasks)
    report.add(measure, f"fire, MAX_RUNNING {tasks}", "tasks/s", [speed])


async def time_bare(function: Callable[[int], Any], tasks: int) -> float:
    began = time.perf_counter()
    for number in range(tasks):
        create_bare(function(number))
    await wait_for(lambda: not strong_references)
    return tasks / (time.perf_counter() - began)


async def time_fired(function: Any, tasks: int, rows: Rows, **options: object) -> float:
    async with serve(**options):
        began = time.perf_counter()
        for number in range(tasks):
            bgtasks.fire(function, number)
        await wait_until_final(tasks, rows)
        speed = tasks / (time.perf_counter() - began)
    rows.delete()
    return speed


async def time_two_writes(tasks: int, rows: Rows) -> float:
    """Let the tasks end only after all of them are written as RUNNING."""
    gate.clear()
    async with serve(MAX_RUNNING=tasks):
        began = time.perf_counter()
        for number in range(tasks):
            bgtasks.fire(recorded_wait, number)
        await wait_for(lambda: rows.count("status = 'RUNNING'") == tasks, 5 * POLL_PAUSE)
        gate.set()
        await wait_until_final(tasks, rows)
        speed = tasks / (time.perf_counter() - began)
    rows.delete()
    return speed


async def wait_until_final(tasks: int, rows: Rows) -> None:
    """Wait for the live tasks of this process first, which costs nothing, and only then read the rows."""
    await wait_for(lambda: bgtasks.pending_task_count() == 0, POLL_PAUSE / 2)
    await rows.wait_until_finished(tasks)


if __name__ == "__main__":
    harness.main(__doc__, measure)
