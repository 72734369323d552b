"""
`Lifespan`: the outermost ASGI application of a project that uses bgtasks.

It tells bgtasks which event loop the server runs and when the server starts and stops. Django itself answers HTTP
only, and a server that is told nothing kills running tasks without a word. What happens then is not its business: it
sends signals.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import Context
from functools import partial
from typing import Any

from django.dispatch import Signal

from ..api import get_config, get_runtime
from ..log import log
from ..runtime.context import scope_variable
from ..signals import drained, lifespan_shutdown, lifespan_startup, stop_asked
from .hypercorn import call_at_stop

__all__ = ["Lifespan"]

PATIENCE = 1.0  # Seconds beyond the deadline for what others do at the end.

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Any, Any, Any], Awaitable[None]]  # (scope, receive, send): each framework types them its way.


class Lifespan:
    """
    Wrap an ASGI application: `application = Lifespan(get_asgi_application())`.

    With Channels: around the whole `ProtocolTypeRouter`, or in it as its entry "lifespan".

    Args:
        application: gets every scope, "lifespan" as well if it understands it. None: only "lifespan" is answered.
    """

    def __init__(self, application: Application | None = None) -> None:
        self.application = application

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _Conversation(self.application, scope, receive, send).hold()
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
    """One lifespan: the server's messages in, its answers out, and the inner application in between."""

    def __init__(
        self, application: Application | None, scope: MutableMapping[str, Any], receive: Receive, send: Send
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._inner = _InnerLifespan(application, scope)
        self._clock = _StopClock(self._announce_request)
        self._announcement: asyncio.Task[None] | None = None  # The loop holds its tasks weakly.

    async def hold(self) -> None:
        while True:
            message = await self._receive()
            if message["type"] == "lifespan.startup":
                if not await self._start():
                    return
            elif message["type"] == "lifespan.shutdown":
                await self._stop()
                return

    async def _start(self) -> bool:
        """Start from the inside out; tell the server whether that went well."""
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
        """Tell that the process was told to stop, while the server waits for what is open."""
        deadline = get_runtime().settings.find_deadline(self._clock.stop_asked_at, time.monotonic())
        announcing = _announce(stop_asked, "stop_asked", deadline, scope=self._scope)
        self._announcement = asyncio.ensure_future(announcing)

    async def _stop(self) -> None:
        """Stop from the outside in; whatever happens, the server gets its answer."""
        try:
            await announce_stop(self._scope, self._clock.stop_asked_at)
            await self._inner.stop()
        finally:
            self._clock.remove()
            get_config().shut_down()
            await self._send({"type": "lifespan.shutdown.complete"})


async def announce_stop(scope: MutableMapping[str, Any], stop_asked_at: float, asked_by: str = "lifespan") -> None:
    """Tell everybody that the server is about to stop. The drain is one of the receivers."""
    deadline = get_runtime().settings.find_deadline(stop_asked_at, time.monotonic())
    with contextlib.suppress(asyncio.CancelledError):  # Hypercorn after its shutdown_timeout: the drain hurries then.
        details = {"scope": scope, "stop_asked_at": stop_asked_at, "asked_by": asked_by}
        await _announce(lifespan_shutdown, "lifespan_shutdown", deadline, **details)
    await _announce(drained, "drained", deadline, scope=scope)


async def _announce(what: Signal, name: str, deadline: float, **details: Any) -> None:
    """Send a signal of the end. A receiver that raises, or hangs, does not keep the server from ending."""
    patience = max(deadline - time.monotonic(), 0) + PATIENCE
    answers: list[tuple[Any, Any]] = []
    try:
        async with asyncio.timeout(patience):
            answers = await what.asend_robust(Lifespan, **details)
    except TimeoutError:
        log(logging.ERROR, "The receivers of %s took longer than %.1f s; the server ends without them.", name, patience)
    for receiver, answer in answers:
        if isinstance(answer, Exception):
            log(logging.ERROR, "At shutdown %r failed.", receiver, exc_info=answer)


class _InnerLifespan:
    """The lifespan of the wrapped application, if it has one: Django and Channels raise at the first message."""

    def __init__(self, application: Application | None, scope: MutableMapping[str, Any]) -> None:
        self._application = application
        self._scope = scope
        self._incoming: asyncio.Queue[Message] = asyncio.Queue()
        self._outgoing: asyncio.Queue[Message] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        if self._application is None:
            return
        running = self._application(self._scope, self._incoming.get, self._outgoing.put)
        self._task = asyncio.ensure_future(running)
        answer = await self._ask("lifespan.startup")
        if answer is None:
            self._task = None
        elif answer["type"] == "lifespan.startup.failed":
            raise RuntimeError(answer.get("message") or "The application's own start-up failed.")

    async def stop(self) -> None:
        if self._task is not None:
            await self._ask("lifespan.shutdown")
            done, _ = await asyncio.wait({self._task}, timeout=PATIENCE)
            if not done:
                self._task.cancel()  # It has answered, and nobody will ask it any more.
            with contextlib.suppress(Exception, asyncio.CancelledError):
                await self._task

    async def _ask(self, what: str) -> Message | None:
        """Send a message and return the answer, or None if the application ends without one."""
        assert self._task is not None  # It was started.
        await self._incoming.put({"type": what})
        answer = asyncio.ensure_future(self._outgoing.get())
        await asyncio.wait({answer, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        answer.cancel()
        if not self._task.cancelled():
            self._task.exception()  # Seen: it is how an application says that it has no lifespan.
        return None


class _StopClock:
    """
    Remembers when the process was told to stop.

    The server sends "lifespan.shutdown" only after open requests have ended, while the platform that will kill the
    process counts from the signal. The server's own handlers are called as before.

    Args:
        when_asked: is called then, on the loop.
    """

    def __init__(self, when_asked: Callable[[], None]) -> None:
        self._when_asked = when_asked
        self._asked_at: float | None = None
        self._wrapped: dict[int, tuple[Any, Any]] = {}

    @property
    def stop_asked_at(self) -> float:
        """The moment of the signal, or now without one, as `time.monotonic()` counts."""
        return time.monotonic() if self._asked_at is None else self._asked_at

    def install(self) -> None:
        self._loop = asyncio.get_running_loop()
        if threading.current_thread() is not threading.main_thread():
            return  # Python lets only the main thread set handlers; the clock then starts at "lifespan.shutdown".
        for number in (signal.SIGTERM, signal.SIGINT):
            previous = signal.getsignal(number)
            if callable(previous):
                noting = partial(self._note_signal, previous)
                signal.signal(number, noting)
                self._wrapped[number] = (noting, previous)

    def remove(self) -> None:
        for number, (noting, previous) in self._wrapped.items():
            if signal.getsignal(number) is noting:
                signal.signal(number, previous)

    def note(self) -> None:
        """Note that it is told now, from a signal handler or on the loop."""
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            with contextlib.suppress(RuntimeError):  # The loop may be closed by now.
                self._loop.call_soon_threadsafe(self._when_asked, context=Context())

    def _note_signal(self, previous: Callable[[int, Any], Any], number: int, frame: Any) -> None:
        self.note()
        previous(number, frame)
