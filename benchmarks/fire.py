"""
The cost of firing: `fire()` against a bare `asyncio.create_task`, in one run on one machine.

    python -m benchmarks.fire [--database postgresql] [--quick]

Bare and recorded repeats alternate, so that a noisy machine disturbs both alike: compare the ratios, not the
microseconds. The rows are in a new database, which is dropped at the end. The runtime is started and drained as by a
server, through the ASGI lifespan protocol.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

import bgtasks
from benchmarks import harness
from benchmarks.harness import Report, Rows, create_bare, serve, strong_references, wait_for
from benchmarks.throughput import time_bare

BURST = 200  # Calls without a pause; below MAX_RUNNING, so that each task starts at once.
IDLE_CALLS = 150  # In one repeat, each after a pause.
IDLE_PAUSE = (0.001, 0.005)  # Seconds: the bounds of a random pause.
PAYLOAD = {"event": "order.paid", "order": 4711, "lines": [{"sku": "A-1", "count": 2}, {"sku": "B-7", "count": 1}]}

first_lines: list[int] = []


async def no_op(number: int, text: Any) -> None:
    """Note the moment of the first line, and return."""
    first_lines.append(time.perf_counter_ns())


recorded_no_op = bgtasks.task(name="benchmark.fire.no_op")(no_op)

WAYS: dict[str, Callable[[int], Any]] = {
    "create_task": lambda number: create_bare(no_op(number, "a")),
    "fire, two scalars": lambda number: bgtasks.fire(recorded_no_op, number, "a"),
    "fire, a dictionary": lambda number: bgtasks.fire(recorded_no_op, number, PAYLOAD),
    "fire, a coroutine object": lambda number: bgtasks.fire(no_op(number, "a")),
}
BARE = "create_task"


def is_quiet() -> bool:
    return not strong_references and bgtasks.pending_task_count() == 0


# The measures.


async def measure_burst(way: Callable[[int], Any], calls: int) -> list[float]:
    """Return the microseconds of each call, fired in bursts."""
    spent: list[float] = []
    for _ in range(max(calls // BURST, 1)):
        for number in range(BURST):
            began = time.perf_counter_ns()
            way(number)
            spent.append((time.perf_counter_ns() - began) / 1000)
        await wait_for(is_quiet)
    return spent


async def measure_idle(way: Callable[[int], Any]) -> tuple[list[float], list[float]]:
    """Return the microseconds of each call, and those from the call to the first line of its task."""
    spent: list[float] = []
    until_first_line: list[float] = []
    for number in range(IDLE_CALLS):
        await asyncio.sleep(random.uniform(*IDLE_PAUSE))
        first_lines.clear()
        began = time.perf_counter_ns()
        way(number)
        spent.append((time.perf_counter_ns() - began) / 1000)
        await wait_for(lambda: bool(first_lines), pause=0)
        until_first_line.append((first_lines[0] - began) / 1000)
    await wait_for(is_quiet)
    return spent, until_first_line


async def measure_afire() -> list[float]:
    """Return the microseconds until each row was committed."""
    spent: list[float] = []
    for number in range(IDLE_CALLS):
        await asyncio.sleep(random.uniform(*IDLE_PAUSE))
        began = time.perf_counter_ns()
        await bgtasks.afire(recorded_no_op, number, "a")
        spent.append((time.perf_counter_ns() - began) / 1000)
    await wait_for(is_quiet)
    return spent


async def measure_throughput(tasks: int, rows: Rows, yield_every: int | None) -> float:
    """Return the tasks per second, from the first call until all rows in the table are final."""
    began = time.perf_counter()
    for number in range(tasks):
        bgtasks.fire(recorded_no_op, number, "a")
        if yield_every and number % yield_every == 0:
            await asyncio.sleep(0)
    await wait_for(lambda: bgtasks.pending_task_count() == 0)
    await rows.wait_until_finished(tasks)
    speed = tasks / (time.perf_counter() - began)
    rows.delete()
    return speed


async def measure_calls(report: Report, calls: int, rows: Rows) -> None:
    async with serve():
        for name, way in WAYS.items():
            report.add("one call, burst", name, "µs", await measure_burst(way, calls))
        for name, way in WAYS.items():
            spent, until_first_line = await measure_idle(way)
            report.add("one call, idle", name, "µs", spent)
            report.add("call → first line, idle", name, "µs", until_first_line)
        report.add("await afire → committed, idle", "afire, two scalars", "µs", await measure_afire())
    rows.delete()


async def measure_throughputs(report: Report, tasks: int, rows: Rows) -> None:
    measure = "all fired → all final"
    report.add(measure, BARE, "tasks/s", [await time_bare(lambda number: no_op(number, "a"), tasks)])
    cases: list[tuple[str, dict[str, object], int | None]] = [
        ("fire, at once", {}, None),
        ("fire, the loop runs every 100", {}, 100),
        (f"fire, at once, MAX_RUNNING {tasks}", {"MAX_RUNNING": tasks}, None),
    ]
    for way, options, yield_every in cases:
        async with serve(**options):
            report.add(measure, way, "tasks/s", [await measure_throughput(tasks, rows, yield_every)])


async def measure_all(report: Report, options: harness.Options) -> None:
    tasks = options.tasks or (1000 if options.quick else 10_000)
    with harness.watch_rows() as rows:
        async with serve():
            await measure_burst(WAYS["fire, two scalars"], BURST)  # Warms up: imports, threads, connections.
        rows.delete()
        for _ in range(options.repeats):
            await measure_calls(report, tasks // 5, rows)
            await measure_throughputs(report, tasks, rows)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tasks", type=int, help="tasks in one throughput repeat (default 10000, quick 1000)")


if __name__ == "__main__":
    harness.main(__doc__, measure_all, repeats=5, add_arguments=add_arguments)
