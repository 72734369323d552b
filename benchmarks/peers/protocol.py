"""The protocol of the adapters: a request as JSON on standard input, an answer as JSON on standard output."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
REDIS = f"redis://{os.environ.get('BENCHMARKS_REDIS', '127.0.0.1:6379')}"
LONGEST_START = 30.0  # Seconds for the first task of a worker.
LONGEST_BURST = 90.0  # Seconds.
IDLE_CALLS = 15
LONGEST_IDLE = 5.0  # Seconds for all idle calls. Systems that look once a second make only LEAST_IDLE_CALLS.
LEAST_IDLE_CALLS = 3
IDLE_PAUSE = 0.02  # Seconds before each.
STARTS = "BENCHMARKS_STARTS"  # The variable with the path of the file in which tasks note their start.


class Absent(Exception):
    """A requirement of the system is missing."""


@dataclass(frozen=True)
class Request:
    tasks: int
    body_seconds: float  # 0: a no-op.
    setting: str  # "default", or the best known setting of the system.
    database: str = ""  # For systems that support several, such as "sqlite" and "postgresql".

    @property
    def is_best(self) -> bool:
        return self.setting != "default"


@dataclass(frozen=True)
class Answer:
    per_second: float  # From the first call until the system's own record shows that all have finished.
    call_microseconds: float  # The mean of a call in a burst.
    idle_call_microseconds: float  # The median of a call on an idle system.
    idle_start_microseconds: float  # The median from such a call to the first line of its task.


Measure = Callable[[Request], Coroutine[Any, Any, Answer]]


def answer(measure: Measure) -> None:
    """Run an adapter."""
    give(asyncio.run(measure(take())))


def take() -> Request:
    return Request(**json.load(sys.stdin))


def give(found: Answer) -> None:
    print(json.dumps(asdict(found)))


def note_start(number: int) -> None:
    """Note the start of a task, at its first line. Only for idle calls, whose numbers are below 0."""
    if number < 0:
        began_at = time.time_ns()
        with open(os.environ[STARTS], "a") as file:
            file.write(f"{number} {began_at}\n")


async def measure_system(
    request: Request, fire: Callable[[int], Any], count_finished: Callable[[], int], pause: float = 0.005
) -> Answer:
    """
    Fire some tasks with pauses; then fire all of them one after the other, and wait for the end of all.

    Args:
        fire: fires the task with a number, which the task passes to `note_start`. A coroutine function is awaited.
        count_finished: returns the number of finished tasks from the system's own record.
        pause: seconds between two reads of that record, so that they do not disturb the measure.
    """

    async def wait_until_finished(expected: int) -> None:
        async with asyncio.timeout(LONGEST_BURST):
            while count_finished() < expected:
                await asyncio.sleep(pause)

    before = count_finished()
    idle_calls, idle_starts = await measure_idle(fire)
    before += len(idle_calls)
    await wait_until_finished(before)
    is_async = inspect.iscoroutinefunction(fire)
    began = time.perf_counter()
    for number in range(request.tasks):
        if is_async:
            await fire(number)
        else:
            fire(number)
    called = time.perf_counter()
    await wait_until_finished(before + request.tasks)
    ended = time.perf_counter()
    return Answer(
        per_second=request.tasks / (ended - began),
        call_microseconds=(called - began) / request.tasks * 1e6,
        idle_call_microseconds=statistics.median(idle_calls),
        idle_start_microseconds=statistics.median(idle_starts),
    )


async def measure_idle(fire: Callable[[int], Any]) -> tuple[list[float], list[float]]:
    """Return the microseconds of each call, and those from the call to the first line of its task."""
    calls: list[float] = []
    starts: list[float] = []
    end = time.monotonic() + LONGEST_IDLE
    while len(calls) < LEAST_IDLE_CALLS or (len(calls) < IDLE_CALLS and time.monotonic() < end):
        await asyncio.sleep(IDLE_PAUSE)
        number = -1 - len(calls)
        began_at = time.time_ns()  # A clock that all processes share.
        began = time.perf_counter()
        if inspect.iscoroutinefunction(fire):
            await fire(number)
        else:
            fire(number)
        calls.append((time.perf_counter() - began) * 1e6)
        starts.append((await wait_for_start(number) - began_at) / 1000)
    return calls, starts


async def wait_for_start(number: int) -> int:
    """Return the start of the task with a number, in nanoseconds since the epoch."""
    async with asyncio.timeout(LONGEST_START):
        while True:
            for line in Path(os.environ[STARTS]).read_text().splitlines():
                if line.startswith(f"{number} "):
                    return int(line.split()[1])
            await asyncio.sleep(0.001)


@contextmanager
def worker(*command: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the worker of a system during the block, and kill it at the end."""
    environment = {**os.environ, **variables, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # So that its children are killed with it.
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


async def wait_until_works(process: subprocess.Popen[bytes], is_done: Callable[[], bool]) -> None:
    """Wait until the worker has carried out its first task."""
    end = time.monotonic() + LONGEST_START
    while not is_done():
        if process.poll() is not None:
            raise RuntimeError(f"The worker ended with {process.returncode}.")
        if time.monotonic() > end:
            raise RuntimeError(f"The worker has done nothing for {LONGEST_START} s.")
        await asyncio.sleep(0.02)


def program(name: str) -> str:
    """Return the path of a program of this environment."""
    return str(Path(sys.executable).parent / name)


def connect_redis(number: int) -> Any:
    """Empty one of the Redis databases of the benchmarks, and return a client of it."""
    import redis

    client = redis.Redis.from_url(f"{REDIS}/{number}")
    try:
        client.flushdb()
    except redis.ConnectionError as error:
        raise Absent(f"no Redis: {error}") from None
    return client
