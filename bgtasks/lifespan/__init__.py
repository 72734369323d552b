"""
`Lifespan`: the outermost ASGI application of a project that uses bgtasks.

It learns from the server which event loop runs and when the server starts and stops, and sends signals of these events.
The drain is one of their receivers. Without it a server kills running tasks without a trace: Django itself answers HTTP
only.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import MutableMapping
from typing import Any

from ..api import get_config, get_runtime
from ..log import log
from ..runtime.context import scope_variable
from ..runtime.drain_deadline import find_deadline
from ..signals import drained, lifespan_shutdown, lifespan_startup, stop_asked
from .announcing import announce
from .hypercorn import call_at_stop
from .inner import Application, InnerLifespan, Receive, Send
from .stop_clock import StopClock

__all__ = ["Lifespan"]


class Lifespan:
    """
    Wrap an ASGI application: `application = Lifespan(get_asgi_application())`.

    With Channels it goes around the whole `ProtocolTypeRouter`, or into it as its entry "lifespan".

    Args:
        application: gets every scope, "lifespan" too if it understands it. None: only "lifespan" is answered.
    """

    def __init__(self, application: Application | None = None) -> None:
        self.application = application

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _Conversation(self.application, scope, receive, send).run()
            return
        _register_loop()
        if self.application is None:
            raise ValueError(f"Lifespan() without an application answers lifespan only, not {scope['type']}.")
        scope_variable.set(scope if scope["type"] == "http" else None)  # type: ignore[arg-type]  # A dict in practice.
        await self.application(scope, receive, send)


def _register_loop() -> None:
    # In each scope, since a server such as Daphne never sends "lifespan".
    get_runtime().serve(asyncio.get_running_loop())


class _Conversation:
    """One lifespan: the server's messages, the answers to them, and the inner application in between."""

    def __init__(
        self, application: Application | None, scope: MutableMapping[str, Any], receive: Receive, send: Send
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._inner = InnerLifespan(application, scope)
        self._clock = StopClock(self._announce_request)
        self._announcement: asyncio.Task[None] | None = None  # Kept here, since the loop holds its tasks weakly.

    async def run(self) -> None:
        while True:
            message = await self._receive()
            if message["type"] == "lifespan.startup":
                if not await self._start():
                    return
            elif message["type"] == "lifespan.shutdown":
                await self._stop()
                return

    async def _start(self) -> bool:
        """Start from the inside out; answer the server, and return whether the start succeeded."""
        get_config().go_live().state.hears_its_end = True
        _register_loop()
        try:
            await self._inner.start()
            await lifespan_startup.asend(Lifespan, scope=self._scope)
        except Exception as error:
            reason = "The server cannot start: a receiver of lifespan_startup, or the application, failed."
            log(logging.ERROR, reason, exc_info=error)
            await self._send({"type": "lifespan.startup.failed", "message": f"{type(error).__name__}: {error}"})
            return False
        self._clock.install()
        await self._send({"type": "lifespan.startup.complete"})
        call_at_stop(self._clock.note)
        return True

    def _announce_request(self) -> None:
        """Announce that the process was asked to stop, while the server waits for open connections."""
        deadline = find_deadline(get_runtime().settings, self._clock.stop_asked_at, time.monotonic())
        announcing = announce(stop_asked, "stop_asked", Lifespan, deadline, scope=self._scope)
        self._announcement = asyncio.ensure_future(announcing)

    async def _stop(self) -> None:
        """Stop from the outside in; the server gets its answer in any case."""
        try:
            await announce_stop(self._scope, self._clock.stop_asked_at)
            await self._inner.stop()
        finally:
            self._clock.remove()
            get_config().shut_down()
            await self._send({"type": "lifespan.shutdown.complete"})


def make_scope() -> dict[str, Any]:
    """Return a lifespan scope for the signals of a process whose server sends none."""
    return {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}


async def announce_stop(scope: MutableMapping[str, Any], stop_asked_at: float, asked_by: str = "lifespan") -> None:
    """
    Announce that the process is about to stop, and then that its tasks are drained. The drain is a receiver of this.

    It takes until the deadline of the drain and, where receivers hang, two seconds more.

    Args:
        stop_asked_at: from which the deadline counts, as `time.monotonic()` does.
        asked_by: for the row of the drain.
    """
    deadline = find_deadline(get_runtime().settings, stop_asked_at, time.monotonic())
    details = {"scope": scope, "stop_asked_at": stop_asked_at, "asked_by": asked_by}
    # Hypercorn cancels this after its shutdown_timeout. The drain hurries then, and `drained` is sent all the same.
    with contextlib.suppress(asyncio.CancelledError):
        await announce(lifespan_shutdown, "lifespan_shutdown", Lifespan, deadline, **details)
    await announce(drained, "drained", Lifespan, deadline, scope=scope)
