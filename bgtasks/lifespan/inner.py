"""The inner lifespan: the start-up and shutdown of the application that `Lifespan` wraps."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

END_TIMEOUT = 1.0  # Seconds for the application to return after its last answer.

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Any, Any, Any], Awaitable[None]]  # (scope, receive, send): each framework types them its way.


class InnerLifespan:
    """
    The lifespan of the wrapped application.

    An application may have none: those of Django and Channels raise at the first message, which is no error.
    """

    def __init__(self, application: Application | None, scope: MutableMapping[str, Any]) -> None:
        self._application = application
        self._scope = scope
        self._incoming: asyncio.Queue[Message] = asyncio.Queue()
        self._outgoing: asyncio.Queue[Message] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None  # None: the application has no lifespan.

    async def start(self) -> None:
        """
        Start the application.

        Raises:
            RuntimeError: its start-up failed.
        """
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
            done, _ = await asyncio.wait({self._task}, timeout=END_TIMEOUT)
            if not done:
                self._task.cancel()  # It has answered, and gets no further message.
            with contextlib.suppress(Exception, asyncio.CancelledError):
                await self._task

    async def _ask(self, message_type: str) -> Message | None:
        """Send a message and return the answer, or None if the application ends without one."""
        assert self._task is not None  # It was started.
        await self._incoming.put({"type": message_type})
        answer = asyncio.ensure_future(self._outgoing.get())
        await asyncio.wait({answer, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        answer.cancel()
        if not self._task.cancelled():
            self._task.exception()  # Retrieved, or asyncio would log it: this is how an application has no lifespan.
        return None
