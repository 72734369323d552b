"""
The stop of a Hypercorn worker, which its parent process requests by an event, and not by a signal.

The worker sends "lifespan.shutdown" only after its connections have ended, for which Python 3.12 and newer wait without
limit. Its tasks that wait for the event end before that, so their end is the moment of the request.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

RETRY_EVERY, MAX_TRIES = 0.1, 600  # Seconds, and for a minute: the tasks start when Hypercorn begins to serve.


def call_at_stop(when_asked: Callable[[], None], tries: int = MAX_TRIES) -> None:
    """Call `when_asked`, once or more, when the Hypercorn of the running loop is asked to stop. Else do nothing."""
    if "hypercorn" not in sys.modules:
        return
    waiting = [task for task in asyncio.all_tasks() if getattr(task.get_coro(), "__qualname__", "") == "raise_shutdown"]
    for task in waiting:
        task.add_done_callback(lambda _task: when_asked())
    if not waiting and tries:
        asyncio.get_running_loop().call_later(RETRY_EVERY, call_at_stop, when_asked, tries - 1)
