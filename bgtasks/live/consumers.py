"""The server's end of an admin page's WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.contrib.auth import get_user

from ..signals import lifespan_shutdown
from . import GROUP

PAUSE = 0.5  # Seconds between two messages to a browser, however much changes.
CHECK_EVERY = 30.0  # Seconds between two looks whether the user may still see it.
GONE, FORBIDDEN = 1012, 4403  # Close codes: the server restarts; the user may not.


class LiveConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]  # Channels has no types.
    """
    Sends `{"changed": true}` when tasks have changed.

    Changes only set a flag, so a slow browser holds up nobody, and whatever it missed is one message.
    """

    async def connect(self) -> None:
        self._has_changed = asyncio.Event()
        self._sender: asyncio.Task[None] | None = None
        if self.channel_layer is None or not self._is_of_this_site() or not await self._may_view():
            await self.close(FORBIDDEN)
            return
        await self.channel_layer.group_add(GROUP, self.channel_name)
        lifespan_shutdown.connect(self._leave)  # Held weakly: it goes with the consumer.
        await self.accept()
        self._sender = asyncio.create_task(self._send_changes())

    async def disconnect(self, code: int) -> None:
        lifespan_shutdown.disconnect(self._leave)
        if self._sender is not None:
            self._sender.cancel()
        if self.channel_layer is not None:
            with contextlib.suppress(Exception):  # The layer may be away. It forgets the channel by itself.
                await self.channel_layer.group_discard(GROUP, self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Take nothing: a page has nothing to say here."""

    async def bgtasks_changed(self, event: dict[str, Any]) -> None:
        self._has_changed.set()

    async def _send_changes(self) -> None:
        loop = asyncio.get_running_loop()
        check_at = loop.time() + CHECK_EVERY
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK_EVERY):
                    await self._has_changed.wait()
            if loop.time() >= check_at:
                check_at = loop.time() + CHECK_EVERY
                if not await self._may_view():
                    await self.close(FORBIDDEN)
                    return
            if self._has_changed.is_set():
                self._has_changed.clear()
                await self.send(text_data='{"changed": true}')
            await asyncio.sleep(PAUSE)

    async def _leave(self, **kwargs: Any) -> None:
        await self.close(GONE)

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
        return urlsplit(origin).netloc == host.decode("latin-1") or origin in settings.CSRF_TRUSTED_ORIGINS


class _Request:
    """What `get_user` asks of a request."""

    def __init__(self, session: Any) -> None:
        self.session = session
