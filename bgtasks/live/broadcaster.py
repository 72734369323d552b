"""The broadcaster: sends a message to the channel layer when tasks of this process have changed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from contextvars import Context
from typing import Any

from ..journal.heartbeat import FindLoop
from ..journal.tally import Tally
from ..log import log
from ..process.channel_layer import find_channel_layer
from . import GROUP

EVERY = 0.25  # Seconds between two messages.
SEND_TIMEOUT = 5.0  # Seconds.

MESSAGE = {"type": "bgtasks.changed"}


class Broadcaster:
    """A service of the journal's thread. The event loop uses the layer; the journal does not wait for it."""

    def __init__(self, tally: Tally, find_loop: FindLoop) -> None:
        self._tally = tally
        self._find_loop = find_loop
        self._next = 0.0
        self._announced = 0  # The writes of the tally at the last message.
        self._sending: asyncio.Task[None] | None = None

    def seconds_until_due(self, now: float) -> float:
        if self._tally.writes == self._announced:
            return 60.0  # Each write wakes the thread.
        return max(self._next - now, 0.0)

    def run_once(self, now: float) -> None:
        self._next = now + EVERY
        self._announced = self._tally.writes
        loop = self._find_loop()
        if loop is not None and find_channel_layer() is not None:
            with contextlib.suppress(RuntimeError):  # The loop may be closed by now.
                loop.call_soon_threadsafe(self._begin_send, context=Context())

    def _begin_send(self) -> None:
        if self._sending is None or self._sending.done():
            self._sending = asyncio.get_running_loop().create_task(self._send(), name="bgtasks broadcaster")

    async def _send(self) -> None:
        try:
            async with asyncio.timeout(SEND_TIMEOUT):
                layer: Any = find_channel_layer()
                await layer.group_send(GROUP, MESSAGE)
        except Exception as error:  # noqa: BLE001, RUF100  # Layers differ. The mailbox reports an outage.
            log(logging.DEBUG, "The pages of the admin were not notified (%s: %s).", type(error).__name__, error)
