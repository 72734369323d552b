"""The line at which a suspended task awaits."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from typing import Any

import pytest

from bgtasks.runtime.await_chain import find_place, find_place_of_thread


async def leaf() -> None:
    await asyncio.sleep(3600)  # leaf


async def middle() -> None:
    await leaf()


async def through_async_generator() -> None:
    async def numbers() -> AsyncIterator[int]:
        yield 1
        await leaf()

    async for _ in numbers():
        pass


async def through_nested_async_generators() -> None:
    async def inner() -> AsyncIterator[int]:
        await leaf()
        yield 1

    async def outer() -> AsyncIterator[int]:
        async for number in inner():
            yield number

    async for _ in outer():
        pass


async def through_anext_with_default() -> None:
    async def numbers() -> AsyncIterator[int]:
        await leaf()
        yield 1

    await anext(numbers(), None)


async def through_context_manager() -> None:
    @contextlib.asynccontextmanager
    async def manager() -> AsyncIterator[None]:
        await leaf()
        yield

    async with manager():
        pass


class Awaitable:
    def __await__(self) -> Generator[Any, None, None]:
        return leaf().__await__()


class GeneratorAwaitable:
    def __await__(self) -> Generator[Any, None, None]:
        yield from leaf().__await__()


async def through_awaitable() -> None:
    await Awaitable()


async def through_generator_awaitable() -> None:
    await GeneratorAwaitable()


async def through_task() -> None:
    await asyncio.create_task(middle())


async def through_timeout() -> None:
    await asyncio.wait_for(middle(), 3600)


async def through_gather() -> None:
    await asyncio.gather(asyncio.sleep(0), middle())


async def recursive(depth: int = 200) -> None:
    await (recursive(depth - 1) if depth else leaf())


CHAINS = [
    middle,
    through_async_generator,
    through_nested_async_generators,
    through_anext_with_default,
    through_context_manager,
    through_awaitable,
    through_generator_awaitable,
    through_task,
    through_timeout,
    through_gather,
    recursive,
]


@pytest.mark.parametrize("function", CHAINS, ids=lambda function: function.__name__)
async def test_the_innermost_line_is_found(function: Callable[[], Coroutine[Any, Any, None]]) -> None:
    task = asyncio.create_task(function())
    for _ in range(10):
        await asyncio.sleep(0)

    place = find_place(task.get_coro())

    assert place == (__file__, leaf.__code__.co_firstlineno + 1, "leaf")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_frames_of_libraries_are_skipped() -> None:
    """The coroutine of `Event.wait` has frames of asyncio only."""
    event = asyncio.Event()
    task = asyncio.create_task(event.wait(), name="a library's coroutine")
    await asyncio.sleep(0)
    assert find_place(task.get_coro()) is None
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class Circle:
    """Seems to await itself."""

    @property
    def cr_await(self) -> Circle:
        return self


def test_a_circle_has_an_end() -> None:
    assert find_place(Circle()) is None


async def test_what_is_over_has_no_place() -> None:
    task = asyncio.create_task(asyncio.sleep(0))
    coroutine = task.get_coro()
    await task
    assert find_place(coroutine) is None


def test_a_thread() -> None:
    started, may_end = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        may_end.wait(20)

    thread = threading.Thread(target=work)
    thread.start()
    started.wait(20)
    assert thread.ident is not None

    place = find_place_of_thread(thread.ident)

    may_end.set()
    thread.join()
    assert place is not None
    assert place.function == "test_a_thread.<locals>.work"
    assert find_place_of_thread(thread.ident) is None
