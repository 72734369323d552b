"""
The await chain: finds the line of the project at which a suspended task waits.

`asyncio.Task.get_stack()` shows only the outermost frame of a suspended task. That frame awaits another object, which
has a frame of its own, and so on. This chain is followed here through coroutines, generators, async generators and
other asyncio tasks, to its innermost frame in the project's own code. Variables are never read, except one of asyncio.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

from ..frames import is_project_file

LONGEST_CHAIN = 1000  # Links. A chain may be a circle.

_FRAMES = ("cr_frame", "gi_frame", "ag_frame")
_AWAITED = ("cr_await", "gi_yieldfrom", "ag_await")
# Up to Python 3.11 `wait_for` makes a task for its argument, but awaits a future that does not lead to this task. Its
# local variable `fut` does.
_WAIT_FOR = asyncio.wait_for.__code__ if sys.version_info < (3, 12) else None
_LINKS = (types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType, asyncio.Future)
# The types of objects that Python puts between two links, without an attribute that leads on: `__anext__` of an async
# generator and the like.
_WRAPPERS = frozenset(
    {"async_generator_asend", "async_generator_athrow", "anext_awaitable", "coroutine_wrapper", "FutureIter"}
)


class Place(NamedTuple):
    """A line of source code."""

    file: str
    line: int
    function: str


def find_place(awaited: Any) -> Place | None:
    """
    Return the line at which the project's code waits in a suspended coroutine. Call it on the coroutine's own loop.

    Returns:
        None if no frame belongs to the project's code, or if the coroutine has ended.
    """
    found = None
    for frame in _walk(awaited):
        if is_project_file(frame.f_code.co_filename):
            found = frame
    return _place_of(found) if found is not None else None


def find_place_of_thread(ident: int) -> Place | None:
    """Return the line of the project's code that a thread is running. The thread goes on meanwhile."""
    frame = sys._current_frames().get(ident)
    while frame is not None and not is_project_file(frame.f_code.co_filename):
        frame = frame.f_back
    return _place_of(frame) if frame is not None else None


def _place_of(frame: types.FrameType) -> Place:
    return Place(frame.f_code.co_filename, frame.f_lineno or 0, frame.f_code.co_qualname)


def _walk(awaited: Any) -> Iterator[types.FrameType]:
    for _ in range(LONGEST_CHAIN):
        if awaited is None:
            return
        frame = _frame_of(awaited)
        if frame is not None:
            yield frame
        awaited = frame.f_locals.get("fut") if frame is not None and frame.f_code is _WAIT_FOR else _next(awaited)


def _frame_of(awaited: Any) -> types.FrameType | None:
    return next((frame for name in _FRAMES if (frame := getattr(awaited, name, None)) is not None), None)


def _next(awaited: Any) -> Any:
    """Return the next link of the chain, the object that this one awaits; None at its end."""
    for name in _AWAITED:
        if hasattr(awaited, name):
            return getattr(awaited, name)
    if isinstance(awaited, asyncio.Task):
        return awaited.get_coro()
    if isinstance(awaited, asyncio.Future):
        # `asyncio.gather` awaits several futures: the first one that is not done stands for all.
        return next((child for child in getattr(awaited, "_children", ()) if not child.done()), None)
    if type(awaited).__name__ in _WRAPPERS:
        return next((found for found in gc.get_referents(awaited) if _is_link(found)), None)
    return None


def _is_link(found: Any) -> bool:
    return isinstance(found, _LINKS) or type(found).__name__ in _WRAPPERS
