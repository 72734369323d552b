"""
The end of a worker of Hypercorn, which hears of it from its parent and not by a signal.

It sends lifespan.shutdown only when its connections have ended, for which Python 3.12 and newer wait without limit.
But before that it ends the tasks of its own that wait for the parent's word.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

LOOK_EVERY, MAX_LOOKS = 0.1, 600  # Seconds, and for a minute: it waits for that word as soon as it serves.


def call_at_stop(when_asked: Callable[[], None], looks: int = MAX_LOOKS) -> None:
    """Call this, perhaps twice, when the Hypercorn that begins to serve on the running loop is told to stop, if any."""
    if "hypercorn" not in sys.modules:
        return
    waiting = [task for task in asyncio.all_tasks() if getattr(task.get_coro(), "__qualname__", "") == "raise_shutdown"]
    for task in waiting:
        task.add_done_callback(lambda _task: when_asked())
    if not waiting and looks:
        asyncio.get_running_loop().call_later(LOOK_EVERY, call_at_stop, when_asked, looks - 1)
