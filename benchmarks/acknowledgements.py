"""
How many calls of `await afire` are acknowledged per second, and how long each caller waits.

    python -m benchmarks.acknowledgements [--database postgresql] [--quick]

An acknowledgement is a committed row. For comparison as many callers insert similar rows one by one into the same
table, by `acreate` of the ORM. For a fixed time, each caller calls again as soon as it is answered. The processor time
per answer shows where the time goes: on the event loop (callers and their tasks), on the thread of the journal, or
elsewhere, such as in a database server, for which the process only waits.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

from django.utils import timezone

import bgtasks
from benchmarks import harness
from benchmarks.harness import Report, Rows, p99, serve

CALLERS = (1, 10, 100, 500)


@bgtasks.task(name="benchmark.acknowledgements.no_op")
async def no_op(number: int, text: str) -> None:
    pass


async def insert(number: int) -> None:
    from bgtasks.models import BackgroundTask  # Needs the settings.

    now = timezone.now()
    history = [{"status": "SUCCESSFUL", "at": now.isoformat(), "attempt": 1, "by": "", "why": "returned"}]
    await BackgroundTask.objects.acreate(
        name="benchmark.acknowledgements.no_op",
        status="SUCCESSFUL",
        args=[number, "a"],
        attempt=1,
        created_at=now,
        started_at=now,
        finished_at=now,
        transitions=history,
    )


async def acknowledge(number: int) -> None:
    await bgtasks.afire(no_op, number, "a")


async def measure(report: Report, options: harness.Options) -> None:
    seconds = 0.3 if options.quick else 2.0
    with harness.watch_rows() as rows:
        await call(insert, 1, 0.1)  # Warms up: threads, connections.
        rows.delete()
        for _ in range(options.repeats):
            for callers in CALLERS:
                add(report, callers, "INSERT each, acreate", *await call(insert, callers, seconds))
                rows.delete()
                speed, waits, parts = await call_afire(callers, seconds, rows)
                add(report, callers, "await afire", speed, waits)
                for part, spent in parts.items():
                    report.add(f"per answer, {callers} caller{'s' * (callers > 1)}", part, "µs", [spent])


async def call_afire(callers: int, seconds: float, rows: Rows) -> tuple[float, list[float], dict[str, float]]:
    async with serve():
        await acknowledge(0)  # Starts the threads.
        journal = next(thread for thread in threading.enumerate() if thread.name == "bgtasks-journal")
        before = spent_by(threading.current_thread()), spent_by(journal)
        speed, waits = await call(acknowledge, callers, seconds)
        after = spent_by(threading.current_thread()), spent_by(journal)
        await rows.wait_until_finished(len(waits) + 1)  # Every acknowledged row is there.
    rows.delete()
    parts = {
        "all of its time": 1e6 / speed,
        "processor, on the loop": (after[0] - before[0]) * 1e6 / len(waits),
        "processor, on the journal's thread": (after[1] - before[1]) * 1e6 / len(waits),
    }
    return speed, waits, parts


def spent_by(thread: threading.Thread) -> float:
    """Return the processor time of a thread, in seconds."""
    assert thread.ident is not None  # The thread runs.
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))


async def call(function: Callable[[int], Awaitable[Any]], callers: int, seconds: float) -> tuple[float, list[float]]:
    """Return the answers per second, and each wait in microseconds."""
    waits: list[float] = []
    began = time.perf_counter()

    async def ask_again_and_again() -> None:
        while (asked := time.perf_counter()) < began + seconds:
            await function(len(waits))
            waits.append((time.perf_counter() - asked) * 1e6)

    await asyncio.gather(*(ask_again_and_again() for _ in range(callers)))
    return len(waits) / (time.perf_counter() - began), waits


def add(report: Report, callers: int, way: str, speed: float, waits: list[float]) -> None:
    who = f"{callers} caller{'s' if callers > 1 else ''}"
    report.add(f"answers, {who}", way, "answers/s", [speed])
    report.add(f"wait, {who}: median", way, "µs", [sorted(waits)[len(waits) // 2]])
    report.add(f"wait, {who}: p99", way, "µs", [p99(waits)])


if __name__ == "__main__":
    harness.main(__doc__, measure)
