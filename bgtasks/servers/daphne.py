"""
The drain under Daphne, which sends no lifespan events: it hangs on the shutdown of Twisted's reactor.

The reactor waits for it. Daphne meanwhile goes on serving; what its views fire then waits in the table for others.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

from ..api import get_config
from ..lifespan import announce_stop


def hang_drain_on_reactor(loop: asyncio.AbstractEventLoop) -> bool:
    """Have this process drained before the reactor of this loop shuts down; tell whether the loop is a reactor's."""
    reactor: Any = sys.modules.get("twisted.internet.reactor")
    if reactor is None or getattr(reactor, "_asyncioEventloop", None) is not loop:
        return False
    from twisted.internet.defer import Deferred  # Daphne's, not ours: it is there with the reactor.

    def drain() -> Deferred[None]:
        return Deferred.fromFuture(asyncio.ensure_future(_stop(), loop=loop))

    # A sync view that fires is in another thread.
    loop.call_soon_threadsafe(reactor.addSystemEventTrigger, "before", "shutdown", drain)
    return True


def is_serving() -> bool:
    """Tell whether Daphne serves in this process."""
    reactor = sys.modules.get("twisted.internet.reactor")
    return "daphne.server" in sys.modules and bool(getattr(reactor, "running", False))


async def _stop() -> None:
    try:
        await announce_stop({"type": "lifespan"}, time.monotonic(), asked_by="Daphne's reactor")
    finally:
        get_config().shut_down()
