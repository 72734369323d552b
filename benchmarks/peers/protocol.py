"""What an adapter is asked, and what it answers: one JSON object on standard input, one on standard output."""

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
LONGEST_START = 30.0  # Seconds until a worker has done its first task.
LONGEST_BURST = 90.0  # Seconds.
IDLE_CALLS = 15
LONGEST_IDLE = 5.0  # Seconds for all of them: systems that look once a second do no more than LEAST_IDLE_CALLS.
LEAST_IDLE_CALLS = 3
IDLE_PAUSE = 0.02  # Seconds before each.
STARTS = "BENCHMARKS_STARTS"  # The environment's name for the file in which tasks tell when they began.


class Absent(Exception):
    """What the system needs is not there."""


@dataclass(frozen=True)
class Request:
    tasks: int
    body_seconds: float  # 0: a no-op.
    setting: str  # Of the system: "default", or the one that was found to be its best.
    database: str = ""  # "sqlite" or "postgresql", for those that can have either.

    @property
    def is_best(self) -> bool:
        return self.setting != "default"


@dataclass(frozen=True)
class Answer:
    per_second: float  # From the first call until the system's own record says that all are finished.
    call_microseconds: float  # The mean of a call in a burst.
    idle_call_microseconds: float  # The median of a call when nothing else is to be done.
    idle_start_microseconds: float  # From before such a call to the first line of its task, median.


Measure = Callable[[Request], Coroutine[Any, Any, Answer]]


def answer(measure: Measure) -> None:
    """Be an adapter."""
    give(asyncio.run(measure(take())))


def take() -> Request:
    return Request(**json.load(sys.stdin))


def give(found: Answer) -> None:
    print(json.dumps(asdict(found)))


def note_start(number: int) -> None:
    """Tell when a task began: its first line. Only those of idle calls do, whose numbers are below 0."""
    if number < 0:
        began_at = time.time_ns()
        with open(os.environ[STARTS], "a") as file:
            file.write(f"{number} {began_at}\n")


async def measure_system(
    request: Request, fire: Callable[[int], Any], count_finished: Callable[[], int], pause: float = 0.005
) -> Answer:
    """
    Fire some tasks one at a time, with pauses; then all of them one after the other, and wait for the end of all.

    Args:
        fire: fires one, by its number, which the task gives to `note_start`. A coroutine function is awaited.
        count_finished: asks the system's own record how many have finished.
        pause: seconds between two looks at it, so that looking does not disturb.
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
    """Return what each call took, and how long it was from before the call to the task's first line; microseconds."""
    calls: list[float] = []
    starts: list[float] = []
    end = time.monotonic() + LONGEST_IDLE
    while len(calls) < LEAST_IDLE_CALLS or (len(calls) < IDLE_CALLS and time.monotonic() < end):
        await asyncio.sleep(IDLE_PAUSE)
        number = -1 - len(calls)
        began_at = time.time_ns()  # The clock that processes share.
        began = time.perf_counter()
        if inspect.iscoroutinefunction(fire):
            await fire(number)
        else:
            fire(number)
        calls.append((time.perf_counter() - began) * 1e6)
        starts.append((await wait_for_start(number) - began_at) / 1000)
    return calls, starts


async def wait_for_start(number: int) -> int:
    """Return when the task of that number began, in nanoseconds since the epoch."""
    async with asyncio.timeout(LONGEST_START):
        while True:
            for line in Path(os.environ[STARTS]).read_text().splitlines():
                if line.startswith(f"{number} "):
                    return int(line.split()[1])
            await asyncio.sleep(0.001)


@contextmanager
def worker(*command: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """Have a system's worker run for a while. It is killed at the end."""
    environment = {**os.environ, **variables, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # So that its own children end with it.
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


async def wait_until_works(process: subprocess.Popen[bytes], is_done: Callable[[], bool]) -> None:
    """Wait until a worker has done the task that it was given first."""
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
    """Return a client of an empty Redis database of ours."""
    import redis

    client = redis.Redis.from_url(f"{REDIS}/{number}")
    try:
        client.flushdb()
    except redis.ConnectionError as error:
        raise Absent(f"no Redis: {error}") from None
    return client
