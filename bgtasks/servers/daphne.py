"""
The drain under Daphne, which sends no lifespan events: a trigger of Twisted's reactor starts it before the shutdown.

The reactor waits for the drain. Meanwhile Daphne goes on serving. Tasks that its views then fire wait in the table for
other processes.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

from ..api import get_config
from ..lifespan import announce_stop, make_scope


def hang_drain_on_reactor(loop: asyncio.AbstractEventLoop) -> bool:
    """Have this process drained before the reactor of this loop shuts down; return False for a loop without reactor."""
    reactor: Any = sys.modules.get("twisted.internet.reactor")
    if reactor is None or getattr(reactor, "_asyncioEventloop", None) is not loop:
        return False
    from twisted.internet.defer import Deferred  # Not a dependency of ours: it comes with Daphne.

    def drain() -> Deferred[None]:
        return Deferred.fromFuture(asyncio.ensure_future(_stop(), loop=loop))

    # From the thread of a sync view, if that fires the first task.
    loop.call_soon_threadsafe(reactor.addSystemEventTrigger, "before", "shutdown", drain)
    return True


def is_serving() -> bool:
    """Return whether Daphne serves in this process."""
    reactor = sys.modules.get("twisted.internet.reactor")
    return "daphne.server" in sys.modules and bool(getattr(reactor, "running", False))


async def _stop() -> None:
    try:
        await announce_stop(make_scope(), time.monotonic(), asked_by="Daphne's reactor")
    finally:
        get_config().shut_down()
