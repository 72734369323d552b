"""
The end of a worker of Hypercorn, which hears of it from its parent and not by a signal.

It sends lifespan.shutdown only when its connections have ended, for which Python 3.12 and newer wait without limit.
But before that it ends the tasks of its own that wait for the parent's word.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable


def call_at_stop(when_asked: Callable[[], None]) -> None:
    """Call this, perhaps twice, when the Hypercorn that serves on the running loop is told to stop, if one does."""
    if "hypercorn" not in sys.modules:
        return
    for task in asyncio.all_tasks():
        if getattr(task.get_coro(), "__qualname__", "") == "raise_shutdown":
            task.add_done_callback(lambda _task: when_asked())
