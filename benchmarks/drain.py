"""
How long a process takes to stop and to start, and the throughput of several processes on one database.

    python -m benchmarks.drain [--database postgresql] [--quick]

The drain: thousands of live tasks, whose rows are written, are cut short at once (DRAIN_TIMEOUT 0), until all rows are
final. For comparison as many bare tasks are cancelled and awaited. The start: from `django.setup()` in a new process
until its startup is complete, and until the first row is acknowledged, on a large table and on an empty one. Several
processes share the same number of tasks, until all rows are final.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time

import django

import bgtasks
from benchmarks import harness
from benchmarks.harness import ROOT, Child, Report, Rows, serve, wait_for

PROCESSES = (1, 2, 4)
PATIENCE = 60.0  # Seconds for the writes of the drain. With the default of 3, the spool would take some rows.


async def sleep(number: int) -> None:
    await asyncio.sleep(3600)


async def no_op(number: int) -> None:
    pass


recorded_sleep = bgtasks.task(name="benchmark.drain.sleep_long")(sleep)
recorded_no_op = bgtasks.task(name="benchmark.drain.no_op")(no_op)


async def measure(report: Report, options: harness.Options) -> None:
    tasks, finished = (1000, 10_000) if options.quick else (10_000, 1_000_000)
    with harness.watch_rows() as rows:
        for _ in range(options.repeats):
            await measure_drain(report, tasks, rows)
        for _ in range(options.repeats):
            for processes in PROCESSES:
                speed = await time_processes(processes, tasks, rows)
                way = f"{processes} process{'es' if processes > 1 else ''}"
                report.add(f"{tasks:,} no-ops on one database", way, "tasks/s", [speed])
    measure_start(report, options, finished)


# The end.


async def measure_drain(report: Report, tasks: int, rows: Rows) -> None:
    measure = f"drain of {tasks:,} live tasks"
    report.add(measure, "create_task, cancelled", "µs", [await time_cancellation(tasks)])
    report.add(measure, "fire", "µs", [await time_drain(tasks, rows)])
    if (count := rows.count("status = 'INTERRUPTED'")) != tasks:
        raise RuntimeError(f"{count} of {tasks} tasks are INTERRUPTED.")
    rows.delete()


async def time_cancellation(tasks: int) -> float:
    bare = [asyncio.create_task(sleep(number)) for number in range(tasks)]
    await asyncio.sleep(0.1)
    began = time.perf_counter()
    for task in bare:
        task.cancel()
    await asyncio.gather(*bare, return_exceptions=True)
    return (time.perf_counter() - began) * 1e6


async def time_drain(tasks: int, rows: Rows) -> float:
    async with serve(MAX_RUNNING=tasks, DRAIN_TIMEOUT=0, FLUSH_TIMEOUT=PATIENCE):
        for number in range(tasks):
            bgtasks.fire(recorded_sleep, number)
        await wait_for(lambda: rows.count("status = 'RUNNING'") == tasks, 0.05)
        began = time.perf_counter()
    return (time.perf_counter() - began) * 1e6


# The beginning.


def measure_start(report: Report, options: harness.Options, finished: int) -> None:
    with contextlib.ExitStack() as stack:
        past = {
            size: stack.enter_context(Child("growth", "child", options.database, size, 0)) for size in (0, finished)
        }
        for one in past.values():
            one.ask("start")  # Warms up: files of modules and tables.
        for _ in range(options.repeats):
            for size, one in past.items():
                for until, figure in one.ask("start").items():
                    report.add(f"django.setup() → {until}", f"{size:,} finished rows", "µs", [figure])


async def start() -> None:
    """Start as a server does, and print the durations."""
    began = time.perf_counter()
    django.setup()
    async with serve():
        complete = time.perf_counter()
        await bgtasks.afire(recorded_no_op, 0)
        acknowledged = time.perf_counter()
    answer = {"startup complete": (complete - began) * 1e6, "first row acknowledged": (acknowledged - began) * 1e6}
    print(json.dumps(answer), flush=True)


# Several processes.


async def time_processes(count: int, tasks: int, rows: Rows) -> float:
    children = [FiringProcess(tasks // count) for _ in range(count)]
    try:
        for child in children:
            child.wait_until_ready()
        began = time.perf_counter()
        for child in children:
            child.go()
        await rows.wait_until_finished(tasks // count * count)
        speed = tasks // count * count / (time.perf_counter() - began)
    finally:
        for child in children:
            child.end()
    rows.delete()
    return speed


class FiringProcess:
    """A process that fires its tasks on a signal, and ends with its standard input."""

    def __init__(self, tasks: int) -> None:
        command = [sys.executable, "-m", "benchmarks.drain", "fire", str(tasks)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def wait_until_ready(self) -> None:
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            raise RuntimeError("A process that should fire tasks has ended.")

    def go(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"go\n")
        self._process.stdin.flush()

    def end(self) -> None:
        self._process.communicate(timeout=harness.LONGEST_WAIT)


async def fire_on_signal(tasks: int) -> None:
    django.setup()
    async with serve():
        print("ready", flush=True)
        await read_line()
        for number in range(tasks):
            bgtasks.fire(recorded_no_op, number)
        await read_line()  # Stays until all rows are final: some may wait for a claim of this process.


async def read_line() -> str:
    return await asyncio.to_thread(sys.stdin.readline)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["start"]:
            asyncio.run(start())
        case ["fire", tasks]:
            asyncio.run(fire_on_signal(int(tasks)))
        case _:
            harness.main(__doc__, measure)
