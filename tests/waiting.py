"""
Waiting in tests, without a sleep of a fixed length.

Where an event or a row shows the end of a wait, a test waits for that. Only the proof that nothing happens takes time:
`stays` and `astays` name the reason why their seconds are long enough.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

_PAUSE = 0.02  # Seconds between two looks at a condition.


def wait_for(
    condition: Callable[[], Any], expected: str, seconds: float = 30, details: Callable[[], object] = lambda: ""
) -> None:
    """
    Wait until a condition holds.

    Args:
        expected: the condition in words, for the message of a failure.
        details: more for that message, such as a log; called after the failure.
    """
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"Not within {seconds} s: {expected}. {details()}"
        time.sleep(_PAUSE)


def stays(condition: Callable[[], Any], seconds: float, *, why: str) -> None:
    """
    Assert that a condition holds for some seconds.

    Args:
        why: the reason why a change would show itself within these seconds, such as "four times POLL_INTERVAL".
    """
    end = time.monotonic() + seconds
    while True:
        assert condition(), f"It no longer holds, within {seconds} s ({why})."
        if time.monotonic() >= end:
            return
        time.sleep(_PAUSE)


async def astays(condition: Callable[[], Any], seconds: float, *, why: str) -> None:
    """As `stays`, on an event loop. The condition may be a coroutine function."""
    end = time.monotonic() + seconds
    while True:
        found = condition()
        assert await found if asyncio.iscoroutine(found) else found, f"It no longer holds, within {seconds} s ({why})."
        if time.monotonic() >= end:
            return
        await asyncio.sleep(_PAUSE)


async def next_turn() -> None:
    """Let the event loop take one turn, in which a task that was just fired begins."""
    await asyncio.sleep(0)
