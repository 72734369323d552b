"""The server's end of an admin page's WebSocket."""

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

PAUSE = 0.5  # Seconds between two messages to a browser, however much changes.
CHECK_EVERY = 30.0  # Seconds between two looks whether the user may still see it.
RETRY = 5.0  # Seconds until a layer that failed is listened to again.
RENEW_EVERY = 3600.0  # Seconds. A layer forgets the members of a group in time: by default channels-redis in a day.
CLOSE_TIMEOUT = 0.5  # Seconds.
GONE, FORBIDDEN = 4012, 4403  # Close codes: the server restarts; the user may not. Daphne sends none below 3000.
STOPS = (stop_asked, lifespan_shutdown)  # Daphne sends the second only.


class LiveConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]  # Channels has no types.
    """
    Sends `{"changed": true}` when tasks have changed.

    Changes only set a flag, so a slow browser holds up nobody, and whatever it missed is one message.
    """

    channel_layer_alias = ""  # There is none of this name. Channels would end the connection when its layer raises.
    _tasks: tuple[asyncio.Task[None], ...] = ()
    _is_left = False

    async def __call__(self, scope: Any, receive: Receive, send: Any) -> None:
        self._is_closed = asyncio.Event()
        await super().__call__(scope, partial(self._receive_until_closed, receive), send)

    async def _receive_until_closed(self, receive: Receive) -> Any:
        """Wait for no browser that does not answer our closing: it may be gone, and Hypercorn waits for all sockets."""
        received, closed = asyncio.ensure_future(receive()), asyncio.ensure_future(self._is_closed.wait())
        try:
            await asyncio.wait((received, closed), return_when=asyncio.FIRST_COMPLETED)
            return received.result() if received.done() else {"type": "websocket.disconnect", "code": GONE}
        finally:
            received.cancel()
            closed.cancel()

    async def connect(self) -> None:
        for stop in STOPS:  # Before anything is waited for: the stop may come meanwhile.
            stop.connect(self._leave)  # Held weakly: it goes with the consumer.
        layer = get_channel_layer()
        if layer is None or not self._is_of_this_site() or not await self._may_view():
            self._end_tasks()
            await self.close(FORBIDDEN)
            return
        if self._is_left:
            return
        self._has_changed = asyncio.Event()
        await self.accept()
        self._tasks = (asyncio.create_task(self._hear(layer)), asyncio.create_task(self._tell()))
        if self._is_left:
            self._end_tasks()

    async def disconnect(self, code: int) -> None:
        self._end_tasks()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_TIMEOUT)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Take nothing: a page has nothing to say here."""

    async def _hear(self, layer: Any) -> None:
        """Note what the layer tells of. While it fails, the page is told every few seconds that it may have changed."""
        channel = await layer.new_channel()
        try:
            while True:
                with contextlib.suppress(Exception):  # Whatever a layer raises. The mailbox tells of it once.
                    await layer.group_add(GROUP, channel)
                    async with asyncio.timeout(RENEW_EVERY):
                        while True:
                            self._has_changed.set()  # At first too: what was told before is not known.
                            await layer.receive(channel)
                await asyncio.sleep(RETRY)
                self._has_changed.set()
        finally:
            with contextlib.suppress(Exception):  # It may be away, and forgets the channel by itself.
                await layer.group_discard(GROUP, channel)

    async def _tell(self) -> None:
        """Tell the page of changes while the user may see them. When that fails, the page opens another socket."""
        code = GONE
        with contextlib.suppress(Exception):  # The database may be away, or the browser.
            await self._send_changes()
            code = FORBIDDEN
        await self._close(code)

    async def _send_changes(self) -> None:
        """Return when the user may not see them any more."""
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
        """Hang up: a server that is to stop would wait for the page to do so."""
        self._is_left = True
        self._end_tasks()
        await self._close(GONE)

    def _end_tasks(self) -> None:
        for stop in STOPS:
            stop.disconnect(self._leave)
        for task in self._tasks:
            task.cancel()

    async def _close(self, code: int) -> None:
        with contextlib.suppress(Exception):  # The browser may be gone. Granian then lets whoever closes wait for ever.
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self.close(code)
        self._is_closed.set()

    @database_sync_to_async  # type: ignore[untyped-decorator, unused-ignore]
    def _may_view(self) -> bool:
        """Look at the session anew: it may have ended, or the user may have lost a permission."""
        session = self.scope.get("session")
        if session is None or not session.session_key:
            return False
        stored = import_module(settings.SESSION_ENGINE).SessionStore(session.session_key)
        user = get_user(_Request(stored))  # type: ignore[arg-type]  # It asks for the session only.
        return bool(user.is_active and user.is_staff and user.has_perm("bgtasks.view_backgroundtask"))

    def _is_of_this_site(self) -> bool:
        """Tell whether a page of this site asks, as CsrfViewMiddleware does; ALLOWED_HOSTS may allow any."""
        headers = dict(self.scope["headers"])
        origin = headers.get(b"origin", b"").decode("latin-1")
        host = headers.get(b"host", b"")
        if settings.USE_X_FORWARDED_HOST:
            host = headers.get(b"x-forwarded-host", host)
        if not origin:
            return False
        asking = urlsplit(origin)
        return asking.netloc == host.decode("latin-1") or any(
            trusted.scheme == asking.scheme and is_same_domain(asking.netloc, trusted.netloc.lstrip("*"))
            for trusted in map(urlsplit, settings.CSRF_TRUSTED_ORIGINS)
        )


class _Request:
    """What `get_user` asks of a request."""

    def __init__(self, session: Any) -> None:
        self.session = session
