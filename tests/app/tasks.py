"""Small tasks for the tests."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from datetime import timedelta

from django.contrib.auth.models import Group

import bgtasks


@bgtasks.task
async def succeed(value: object = None) -> object:
    return value


@bgtasks.task
async def fail(message: str = "as asked") -> None:
    raise ValueError(message)


@bgtasks.task
async def sleep(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


@bgtasks.task(on_lost="rerun")
async def sleep_and_rerun(seconds: float) -> None:
    await asyncio.sleep(seconds)


@bgtasks.task
async def use_orm(number: int, seconds: float = 0.0) -> int:
    await Group.objects.acreate(name=f"before {number}")
    await asyncio.sleep(seconds)
    await Group.objects.acreate(name=f"after {number}")
    return number


@bgtasks.task
async def use_orm_until_drained(number: int) -> int:
    """Run until the drain begins, and then finish, with an ORM call before and after."""
    await Group.objects.acreate(name=f"before {number}")
    while not bgtasks.current().draining:
        await asyncio.sleep(0.05)
    await Group.objects.acreate(name=f"after {number}")
    return number


@bgtasks.task
def use_orm_in_thread(number: int) -> int:
    Group.objects.create(name=f"thread {number}")
    return Group.objects.count()


@bgtasks.task
async def ignore_cancellation(seconds: float) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        try:
            await asyncio.sleep(left)
        except asyncio.CancelledError:
            continue


@bgtasks.task
async def clean_up_when_cancelled(path: str) -> None:
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0.05)
        append_line(path, "cleaned up")


@bgtasks.task
async def fire_child_when_draining(seconds: float) -> None:
    while not bgtasks.current().draining:
        await asyncio.sleep(0.01)
    bgtasks.fire(sleep, seconds)


@bgtasks.task
async def mark(path: str, line: str, seconds: float = 0.0) -> None:
    append_line(path, f"start {line}")
    await asyncio.sleep(seconds)
    append_line(path, f"end {line}")


@bgtasks.task(on_lost="rerun")
async def mark_and_rerun(path: str, line: str, seconds: float = 0.0) -> None:
    """Take `seconds` in the first attempt only."""
    attempt = bgtasks.current().attempt
    await mark.func(path, f"{line} attempt {attempt}", seconds if attempt == 1 else 0)


@bgtasks.task(max_attempts=5)
async def mark_and_fail(path: str, line: str, fails: int, after: float) -> int:
    """Mark each attempt and its process; raise in the first `fails` attempts, and retry `after` seconds later."""
    attempt = bgtasks.current().attempt
    append_line(path, f"start {line} attempt {attempt} in {os.getpid()}")
    if attempt <= fails:
        raise bgtasks.Retry(after=after) from ValueError(f"failure {attempt}")
    return attempt


@bgtasks.task(run_after=timedelta(seconds=6))
async def mark_later(path: str, line: str) -> None:
    append_line(path, f"start {line} in {os.getpid()}")


@bgtasks.task(on_lost="rerun")
async def report(path: str, pages: int, stop_at: int) -> list[int]:
    """Write each page once, beginning after the checkpoint. Attempt 1 stops at page `stop_at` until it is killed."""
    current = bgtasks.current()
    first = current.checkpoint or 0
    for page in range(first, pages):
        if current.attempt == 1 and page == stop_at:
            await asyncio.sleep(3600)
        append_line(path, f"page {page} attempt {current.attempt}")
        current.set_checkpoint(page + 1)
        current.progress(page + 1, pages)
    return [first, pages]


@bgtasks.task(on_lost="rerun")
def report_in_thread(path: str, pages: int, stop_at: int) -> list[int]:
    current = bgtasks.current()
    first = current.checkpoint or 0
    for page in range(first, pages):
        if current.attempt == 1 and page == stop_at:
            time.sleep(3600)
        append_line(path, f"page {page} attempt {current.attempt}")
        current.set_checkpoint(page + 1)
        current.progress(page + 1, pages)
    return [first, pages]


@bgtasks.task(on_lost="rerun")
async def die(path: str) -> None:
    """Kill the process, as a crash in C code would."""
    append_line(path, "start")
    await asyncio.sleep(0.3)  # The request that fired it is answered first.
    os.kill(os.getpid(), signal.SIGKILL)


@bgtasks.task
async def wait_for_file(path: str) -> None:
    while not os.path.exists(path):
        await asyncio.sleep(0.01)


@bgtasks.task
async def block(seconds: float) -> None:
    time.sleep(seconds)  # On purpose: it blocks the loop.


@bgtasks.task
async def wait_deep_down(seconds: float) -> None:
    await _wait_in_a_generator(seconds)


async def _wait_in_a_generator(seconds: float) -> None:
    async for _ in _numbers(seconds):
        pass


async def _numbers(seconds: float) -> AsyncIterator[int]:
    await asyncio.sleep(seconds)
    yield 1


@bgtasks.task
def sleep_in_thread(seconds: float) -> None:
    time.sleep(seconds)


@bgtasks.task(on_lost="rerun")
def sleep_in_thread_and_rerun(seconds: float) -> None:
    time.sleep(seconds)


@bgtasks.task
async def fire_children(count: int) -> None:
    for number in range(count):
        bgtasks.fire(succeed, number)


@bgtasks.task
async def sleep_in_a_thread_of_asyncio(path: str, seconds: float) -> None:
    append_line(path, "started")
    await asyncio.to_thread(time.sleep, seconds)


def append_line(path: str, line: str) -> None:
    """Append a line in one write, which a kill cannot cut in two."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)


@bgtasks.task(rate="5/s")
async def call_api(url: str, number: int) -> int:
    """Call an API that takes five requests a second; a refused request fails the task."""
    import httpx  # Here, since it takes longer than bgtasks and each process of the tests imports this module.

    async with httpx.AsyncClient(timeout=30) as client:
        answer = await client.post(url, content=f"{time.time()} {number}")
    answer.raise_for_status()
    return number
