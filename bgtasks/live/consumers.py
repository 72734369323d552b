"""The WebSocket of an open page of the admin, on the side of the server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.layers import get_channel_layer
from django.conf import settings
from django.contrib.auth import get_user
from django.utils.http import is_same_domain

from ..signals import lifespan_shutdown, stop_asked
from . import GROUP

Receive = Callable[[], Awaitable[Any]]

PAUSE = 0.5  # Seconds between two messages to a browser, at least.
CHECK_EVERY = 30.0  # Seconds between two checks of the user's permission.
RETRY = 5.0  # Seconds until the consumer listens again to a layer that failed.
RENEW_EVERY = 3600.0  # Seconds between two additions to the group: by default channels-redis drops members after a day.
CLOSE_TIMEOUT = 0.5  # Seconds.
GONE, FORBIDDEN = 4012, 4403  # Close codes: the server restarts; no permission. Daphne sends none below 3000.
STOPS = (stop_asked, lifespan_shutdown)  # Under Daphne only the second is sent.


class LiveConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]  # Channels has no types.
    """
    Sends `{"changed": true}` when tasks have changed.

    A change only sets a flag. So a slow browser delays no other, and any number of missed changes is one message.
    """

    channel_layer_alias = ""  # A name without a layer: Channels would close the connection when its own layer raises.
    _tasks: tuple[asyncio.Task[None], ...] = ()
    _is_left = False

    async def __call__(self, scope: Any, receive: Receive, send: Any) -> None:
        self._is_closed = asyncio.Event()
        await super().__call__(scope, partial(self._receive_until_closed, receive), send)

    async def _receive_until_closed(self, receive: Receive) -> Any:
        """
        Return the next message, or a disconnect once the consumer has closed the socket.

        The browser may be gone and never answer the closing, while Hypercorn waits for all sockets.
        """
        received, closed = asyncio.ensure_future(receive()), asyncio.ensure_future(self._is_closed.wait())
        try:
            await asyncio.wait((received, closed), return_when=asyncio.FIRST_COMPLETED)
            return received.result() if received.done() else {"type": "websocket.disconnect", "code": GONE}
        finally:
            received.cancel()
            closed.cancel()

    async def connect(self) -> None:
        for stop in STOPS:  # Before the first await: the stop may come during it.
            stop.connect(self._leave)  # A weak reference, which ends with the consumer.
        layer = get_channel_layer()
        if layer is None or not self._is_of_this_site() or not await self._may_view():
            self._end_tasks()
            await self.close(FORBIDDEN)
            return
        if self._is_left:
            return
        self._has_changed = asyncio.Event()
        await self.accept()
        self._tasks = (asyncio.create_task(self._listen(layer)), asyncio.create_task(self._notify()))
        if self._is_left:
            self._end_tasks()

    async def disconnect(self, code: int) -> None:
        self._end_tasks()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_TIMEOUT)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Ignore messages of the page: it sends none."""

    async def _listen(self, layer: Any) -> None:
        """Set the flag at each message of the layer. While the layer fails, set it every RETRY seconds."""
        channel = await layer.new_channel()
        try:
            while True:
                with contextlib.suppress(Exception):  # Layers differ. The mailbox reports an outage.
                    await layer.group_add(GROUP, channel)
                    async with asyncio.timeout(RENEW_EVERY):
                        while True:
                            self._has_changed.set()  # At first too, since earlier messages are not known.
                            await layer.receive(channel)
                await asyncio.sleep(RETRY)
                self._has_changed.set()
        finally:
            with contextlib.suppress(Exception):  # It may be away, and drops the channel in time.
                await layer.group_discard(GROUP, channel)

    async def _notify(self) -> None:
        """Notify the page of changes while the user may view them. After an error the page opens another socket."""
        code = GONE
        with contextlib.suppress(Exception):  # The database may be away, or the browser.
            await self._send_changes()
            code = FORBIDDEN
        await self._close(code)

    async def _send_changes(self) -> None:
        """Send a message at each change; return when the user has lost the permission."""
        loop = asyncio.get_running_loop()
        check_at = loop.time() + CHECK_EVERY
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK_EVERY):
                    await self._has_changed.wait()
            if loop.time() >= check_at:
                check_at = loop.time() + CHECK_EVERY
                if not await self._may_view():
                    return
            if self._has_changed.is_set():
                self._has_changed.clear()
                await self.send(text_data='{"changed": true}')
            await asyncio.sleep(PAUSE)

    async def _leave(self, **kwargs: Any) -> None:
        """Close the socket: a server that stops would wait for the page to close it."""
        self._is_left = True
        self._end_tasks()
        await self._close(GONE)

    def _end_tasks(self) -> None:
        for stop in STOPS:
            stop.disconnect(self._leave)
        for task in self._tasks:
            task.cancel()

    async def _close(self, code: int) -> None:
        with contextlib.suppress(Exception):  # The browser may be gone, and under Granian this then waits for ever.
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self.close(code)
        self._is_closed.set()

    @database_sync_to_async  # type: ignore[untyped-decorator, unused-ignore]
    def _may_view(self) -> bool:
        """Return whether the session has not ended, and its user still has the permission."""
        session = self.scope.get("session")
        if session is None or not session.session_key:
            return False
        stored = import_module(settings.SESSION_ENGINE).SessionStore(session.session_key)
        user = get_user(_Request(stored))  # type: ignore[arg-type]  # It uses the session only.
        return bool(user.is_active and user.is_staff and user.has_perm("bgtasks.view_backgroundtask"))

    def _is_of_this_site(self) -> bool:
        """Return whether a page of this site sent the request, as CsrfViewMiddleware does: ALLOWED_HOSTS may be "*"."""
        headers = dict(self.scope["headers"])
        origin = headers.get(b"origin", b"").decode("latin-1")
        host = headers.get(b"host", b"")
        if settings.USE_X_FORWARDED_HOST:
            host = headers.get(b"x-forwarded-host", host)
        if not origin:
            return False
        page = urlsplit(origin)
        return page.netloc == host.decode("latin-1") or any(
            trusted.scheme == page.scheme and is_same_domain(page.netloc, trusted.netloc.lstrip("*"))
            for trusted in map(urlsplit, settings.CSRF_TRUSTED_ORIGINS)
        )


class _Request:
    """The part of a request that `get_user` needs."""

    def __init__(self, session: Any) -> None:
        self.session = session
