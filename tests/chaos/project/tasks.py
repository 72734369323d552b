"""The tasks: each marks its start and its end; some harm their process."""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from datetime import timedelta
from typing import Any

from django.conf import settings

import bgtasks

from ..marks import marked
from ..policies import LATER, MOST_AT_ONCE, MOST_PER_SECOND, key_of

MARKS = settings.FOLDER / "marks.txt"
EXIT_CODE = 77
_LIBC = ctypes.PyDLL(None)  # Unlike CDLL, it keeps the GIL during a call.


@bgtasks.task
async def work(tag: str, seconds: float) -> str:
    with marked(MARKS, "work", tag):
        await asyncio.sleep(seconds)
    return tag


@bgtasks.task(on_lost="rerun")
async def work_again(tag: str, seconds: float) -> str:
    with marked(MARKS, "work_again", tag):
        await asyncio.sleep(seconds)
    return tag


@bgtasks.task
def work_in_thread(tag: str, seconds: float) -> None:
    with marked(MARKS, "work_in_thread", tag):
        time.sleep(seconds)


@bgtasks.task(on_lost="rerun")
def work_in_thread_again(tag: str, seconds: float) -> None:
    with marked(MARKS, "work_in_thread_again", tag):
        time.sleep(seconds)


async def work_as_object(tag: str, seconds: float) -> None:
    with marked(MARKS, "work_as_object", tag):
        await asyncio.sleep(seconds)


@bgtasks.task
async def fail(tag: str, seconds: float) -> None:
    with marked(MARKS, "fail", tag):
        await asyncio.sleep(seconds)
        raise ValueError("as asked")


# Tasks with policies.


@bgtasks.task(max_attempts=3, backoff="constant", backoff_first=0.2)
async def work_at_last(tag: str, seconds: float) -> str:
    with marked(MARKS, "work_at_last", tag):
        await asyncio.sleep(seconds)
        if bgtasks.current().attempt == 1:
            raise ValueError("as asked")
    return tag


@bgtasks.task
async def work_with_key(tag: str, seconds: float) -> str:
    with marked(MARKS, "work_with_key", tag):
        await asyncio.sleep(seconds)
    return tag


@bgtasks.task(run_after=timedelta(seconds=LATER), on_lost="rerun")
async def work_later(tag: str, seconds: float) -> str:
    with marked(MARKS, "work_later", tag):
        await asyncio.sleep(seconds)
    return tag


@bgtasks.task(max_running=MOST_AT_ONCE)
async def work_in_turn(tag: str, seconds: float) -> str:
    with marked(MARKS, "work_in_turn", tag):
        await asyncio.sleep(seconds / 4)
    return tag


@bgtasks.task(rate=f"{MOST_PER_SECOND}/s")
async def work_by_rate(tag: str, seconds: float) -> str:
    with marked(MARKS, "work_by_rate", tag):
        await asyncio.sleep(seconds / 4)
    return tag


def find(name: str, tag: str) -> bgtasks.definition.Task[..., Any]:
    """Return the task to fire: some have a key, made from their tag."""
    task: bgtasks.definition.Task[..., Any] = globals()[name]
    if task is work_with_key:
        return task.using(key=key_of(tag), on_conflict="error")
    return task


# Harmful tasks.


@bgtasks.task(on_lost="rerun")
async def block_loop(tag: str, seconds: float) -> None:
    with marked(MARKS, "block_loop", tag):
        time.sleep(seconds)


@bgtasks.task(on_lost="rerun")
async def hold_gil(tag: str, seconds: float) -> None:
    with marked(MARKS, "hold_gil", tag):
        _LIBC.usleep(int(seconds * 1e6))


@bgtasks.task
async def exit_at_once(tag: str, seconds: float) -> None:
    with marked(MARKS, "exit_at_once", tag):
        await asyncio.sleep(seconds)
        os._exit(EXIT_CODE)


@bgtasks.task(on_lost="rerun")
async def exit_again(tag: str, seconds: float) -> None:
    with marked(MARKS, "exit_again", tag):
        await asyncio.sleep(seconds)
        os._exit(EXIT_CODE)


@bgtasks.task
async def exhaust_memory(tag: str, seconds: float) -> None:
    """Take all memory that the process may have, so that its other code has none for a while."""
    with marked(MARKS, "exhaust_memory", tag):
        hoard: list[bytearray] = []
        size = 64 << 20
        while size >= 4096:
            try:
                hoard.append(bytearray(size))
            except MemoryError:
                size //= 2
        try:
            await asyncio.sleep(seconds)
        finally:
            hoard.clear()
