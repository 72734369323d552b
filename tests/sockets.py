"""A WebSocket of the admin's pages, opened by a program instead of a browser."""

from __future__ import annotations

import json
import socket
import time
from collections import deque
from collections.abc import Iterator

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)

PATH = "/bgtasks/live/"
LOST = 1006  # The code that a browser reports for a connection that ended without a close frame.


class Socket:
    """
    A connection to the WebSocket of a server at `http://…`.

    Args:
        headers: of the request, such as Origin and Cookie.
        buffer: the size in bytes of the system's receive buffer.
    """

    def __init__(self, address: str, buffer: int | None = None, **headers: str) -> None:
        host, _, port = address.removeprefix("http://").partition(":")
        self._connection = socket.socket()
        if buffer is not None:
            self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self._connection.connect((host, int(port)))
        self._protocol = WSConnection(ConnectionType.CLIENT)
        extra = [(name.encode(), value.encode()) for name, value in headers.items()]
        self._send(Request(host=f"{host}:{port}", target=PATH, extra_headers=extra))
        self._events: deque[Event] = deque()
        answer = next(event for event in self._until(20) if isinstance(event, AcceptConnection | RejectConnection))
        self.status = 101 if isinstance(answer, AcceptConnection) else answer.status_code

    def next_message(self, seconds: float = 20) -> dict[str, object]:
        """
        Return the next message.

        Raises:
            TimeoutError: none arrives.
        """
        for event in self._until(seconds):
            if isinstance(event, TextMessage):
                return json.loads(event.data)
        raise TimeoutError

    def wait_for_close(self, seconds: float = 20) -> int:
        """Read until the close; return its code."""
        for event in self._until(seconds):
            if isinstance(event, CloseConnection):
                if event.code != LOST:
                    self._send(event.response())
                return int(event.code)
        raise AssertionError("It never ends.")

    def fill(self) -> None:
        """Request answers without reading them, until all buffers to this client are full."""
        ping = self._protocol.send(Ping(payload=b"x" * 125))
        for _ in range(8):
            self._connection.sendall(ping * 1000)  # 1 MB of answers in all, more than the system buffers.

    def close(self) -> None:
        self._connection.close()

    def _until(self, seconds: float) -> Iterator[Event]:
        end = time.monotonic() + seconds
        while True:
            while self._events:
                yield self._events.popleft()
            self._connection.settimeout(max(end - time.monotonic(), 0.01))
            data = self._connection.recv(65_536)
            self._protocol.receive_data(data or None)
            for event in self._protocol.events():
                if isinstance(event, Ping):
                    self._send(event.response())
                else:
                    self._events.append(event)

    def _send(self, event: Event) -> None:
        self._connection.sendall(self._protocol.send(event))
