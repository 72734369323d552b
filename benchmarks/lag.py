"""
The lag of the event loop while tasks of 10 ms are fired at a steady rate, recorded and bare.

    python -m benchmarks.lag [--database postgresql] [--quick]

The lag is the time by which a sleep of a few milliseconds on the loop is too long. The reached rate shows that no task
was delayed.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable

import bgtasks
from benchmarks import harness
from benchmarks.harness import Report, Rows, create_bare, p99, serve, strong_references, wait_for

RATES = (500, 2000, 5000)  # Tasks per second.
BODY = 0.01  # Seconds.
FIRE_PAUSE = 0.001  # Seconds between two firings of all tasks that are due.
PROBE_PAUSE = 0.003  # Seconds for which the probe sleeps.


async def sleep(number: int) -> None:
    await asyncio.sleep(BODY)


recorded_sleep = bgtasks.task(name="benchmark.lag.sleep_10_ms")(sleep)


async def measure(report: Report, options: harness.Options) -> None:
    seconds = 1.0 if options.quick else 5.0
    with harness.watch_rows() as rows:
        for _ in range(options.repeats):
            for rate in RATES:
                await measure_bare(report, rate, seconds)
                await measure_recorded(report, rate, seconds, rows)


async def measure_bare(report: Report, rate: int, seconds: float) -> None:
    lags, fired = await probe(lambda number: create_bare(sleep(number)), rate, seconds)
    await wait_for(lambda: not strong_references)
    add(report, rate, "create_task", lags, fired / seconds)


async def measure_recorded(report: Report, rate: int, seconds: float, rows: Rows) -> None:
    async with serve():
        await bgtasks.afire(recorded_sleep, 0)  # Starts the threads.
        lags, fired = await probe(lambda number: bgtasks.fire(recorded_sleep, number), rate, seconds)
        await rows.wait_until_finished(fired + 1)
    rows.delete()
    add(report, rate, "fire", lags, fired / seconds)


async def probe(start: Callable[[int], object], rate: int, seconds: float) -> tuple[list[float], int]:
    """Return the lag of the loop at each probe, in microseconds, and the number of tasks started meanwhile."""
    lags: list[float] = []
    firing = asyncio.ensure_future(fire_steadily(start, rate, seconds))
    while not firing.done():
        began = time.perf_counter()
        await asyncio.sleep(PROBE_PAUSE)
        lags.append((time.perf_counter() - began - PROBE_PAUSE) * 1e6)
    return lags, firing.result()


async def fire_steadily(start: Callable[[int], object], rate: int, seconds: float) -> int:
    fired = 0
    began = time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        for number in range(fired, int(passed * rate)):
            start(number)
        fired = int(passed * rate)
        await asyncio.sleep(FIRE_PAUSE)
    return fired


def add(report: Report, rate: int, way: str, lags: list[float], reached: float) -> None:
    report.add(f"lag at {rate} tasks/s: median", way, "µs", [statistics.median(lags)])
    report.add(f"lag at {rate} tasks/s: p99", way, "µs", [p99(lags)])
    report.add(f"reached, of {rate} tasks/s", way, "tasks/s", [reached])


if __name__ == "__main__":
    harness.main(__doc__, measure)
