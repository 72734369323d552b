"""The tasks: each marks its start and its end; some harm the process they run in."""

from __future__ import annotations

import asyncio
import ctypes
import os
import time

from django.conf import settings

import bgtasks

from ..marks import marked

MARKS = settings.FOLDER / "marks.txt"
EXIT_CODE = 77
_LIBC = ctypes.PyDLL(None)  # Unlike CDLL it keeps the GIL during a call.


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
        raise ValueError("as told")


# The harmful ones.


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
    """Take all that the process may have, and let everybody in it go without for a while."""
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
