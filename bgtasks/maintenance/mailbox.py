"""The mailbox: messages between processes over the project's channel layer. Any of them may be lost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable
from contextvars import Context
from typing import Any
from uuid import UUID

from ..log import log
from ..process.channel_layer import find_channel_layer
from ..process.state import ProcessState

Message = dict[str, str | list[str]]

FIRST_RETRY, LAST_RETRY = 1.0, 10.0  # Seconds until the mailbox listens again to a layer that failed.
# Seconds of listening. If a layer fails after that, it may still work: channels-redis raises when redis-py has read no
# bytes for 5 s. A message from this process to itself shows whether it works.
LONG_ENOUGH = 1.0
PROBE: Message = {"type": "bgtasks.probe"}
SEND_TIMEOUT = 5.0  # Seconds.
MAX_SENDS = 100  # Messages on their way at once. With a layer that hangs, their number would grow without end.
LAST_WORDS = 0.3  # Seconds that the end of the process waits for the messages on their way, and for the listener.

AWAY = (
    "The channel layer fails (%s: %s). Until it works again, awaited tasks in other processes are polled for, and the "
    "admin's pages poll the server."
)


class Mailbox:
    """
    Listens on the channel of this process, and sends messages to the channels of other processes.

    Only the event loop uses the layer. In a project without a layer the mailbox is never open.
    """

    def __init__(self, state: ProcessState, on_message: Callable[[Any], None]) -> None:
        """
        Args:
            on_message: called on the loop with each message. It may have any content, from any sender.
        """
        self.is_open = False
        self._state = state
        self._on_message = on_message
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listener: asyncio.Task[None] | None = None
        self._sends: set[asyncio.Task[None]] = set()  # The loop holds its tasks weakly.
        self._is_closed = False

    # From any thread.

    def open_on(self, loop: asyncio.AbstractEventLoop) -> None:
        """Listen on this loop from now on."""
        if not self._is_closed:
            self._loop = loop
            with contextlib.suppress(RuntimeError):  # The loop may be closed by now.
                # Without the caller's context, which may hold a request.
                loop.call_soon_threadsafe(self._begin, context=Context())

    def open_anew(self) -> None:
        """Listen on another channel, since the process has a new id."""
        if self._loop is not None:
            self.open_on(self._loop)

    def send(self, process_id: UUID, message: Message, when_lost: Callable[[], None] = lambda: None) -> None:
        """
        Send a message to a process, without waiting until it is sent.

        Args:
            when_lost: called, from any thread, when it is known that the message was not sent.
        """
        if self._loop is None or self._is_closed:
            when_lost()
            return
        try:
            self._loop.call_soon_threadsafe(self._begin_send, process_id, message, when_lost, context=Context())
        except RuntimeError:  # The loop is closed.
            when_lost()

    def stop(self) -> None:
        """Stop at once. Messages on their way are lost."""
        self._is_closed = True
        self.is_open = False
        for task in (self._listener, *list(self._sends)):
            if task is not None:
                _cancel(task)

    # On the loop.

    async def close(self) -> None:
        """Stop after the messages on their way are sent: they may be about tasks that a drain cut short."""
        if self._loop is asyncio.get_running_loop():
            if self._sends:
                await asyncio.wait(self._sends, timeout=LAST_WORDS)
            self.stop()
            if self._listener is not None:
                await asyncio.wait({self._listener}, timeout=LAST_WORDS)
        self.stop()

    def _begin(self) -> None:
        if self._listener is not None:
            _cancel(self._listener)
        if not self._is_closed:
            self._listener = asyncio.get_running_loop().create_task(self._listen(), name="bgtasks mailbox")

    async def _listen(self) -> None:
        """Receive messages; when the layer fails, begin again after a delay, which grows. An outage is logged once."""
        delay, is_away, is_suspect = FIRST_RETRY, False, False
        while True:
            began = math.inf
            try:
                layer = find_channel_layer()
                if layer is None:
                    return
                channel = _name_channel(self._state.id)
                if is_suspect:
                    async with asyncio.timeout(SEND_TIMEOUT):
                        await layer.send(channel, PROBE)
                began = time.monotonic()
                self.is_open = True
                while True:
                    self._on_message(await layer.receive(channel))
            except Exception as error:  # noqa: BLE001, RUF100  # Each kind of layer has its own exceptions.
                is_suspect = True
                if time.monotonic() - began >= LONG_ENOUGH:
                    delay, is_away = FIRST_RETRY, False
                    continue
                self.is_open = False
                if not is_away:
                    log(logging.WARNING, AWAY, type(error).__name__, error)
                is_away = True
            await asyncio.sleep(delay)
            delay = min(delay * 2, LAST_RETRY)

    def _begin_send(self, process_id: UUID, message: Message, when_lost: Callable[[], None]) -> None:
        if self._is_closed or len(self._sends) >= MAX_SENDS:
            when_lost()
            return
        task = asyncio.get_running_loop().create_task(self._send(process_id, message, when_lost))
        self._sends.add(task)
        task.add_done_callback(self._sends.discard)

    async def _send(self, process_id: UUID, message: Message, when_lost: Callable[[], None]) -> None:
        try:
            async with asyncio.timeout(SEND_TIMEOUT):
                await find_channel_layer().send(_name_channel(process_id), message)
        except Exception as error:  # noqa: BLE001, RUF100  # A full channel, a layer that is away, or gone.
            # The listener reports an outage.
            log(logging.DEBUG, "A message to process %s was not sent (%s).", process_id, type(error).__name__)
            when_lost()


def _name_channel(process_id: UUID) -> str:
    return f"bgtasks.{process_id.hex}"


def _cancel(task: asyncio.Task[None]) -> None:
    with contextlib.suppress(RuntimeError):  # Its loop may be closed, and the task gone with it.
        task.get_loop().call_soon_threadsafe(task.cancel)
