"""
Put a server on loopback under load, for a bounded time: `python -m benchmarks.load PORT PATH CONNECTIONS SECONDS`.

Each connection is kept alive, and sends the next request as soon as one is answered. The output is JSON: the number of
answered requests, requests per second, and the median and p99 of the microseconds until an answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time

from benchmarks.harness import p99

ENDING = b"\r\n\r\ndone"  # The end of every answer of `benchmarks.urls`.


class Client(asyncio.Protocol):
    """A connection. All connections add their waits to one list."""

    def __init__(self, path: str, end: float, waits: list[float]) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request = f"GET /{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        self._end = end
        self._waits = waits
        self._answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._answer = b""
        self._asked = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if not self._answer.endswith(ENDING):
            return
        now = time.perf_counter()
        self._waits.append((now - self._asked) * 1e6)
        if not self._answer.startswith(b"HTTP/1.1 200"):
            self.done.set_exception(RuntimeError(f"The server answered: {self._answer!r}"))
        elif now < self._end:
            self._ask()
        else:
            self.done.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError(f"The server closed the connection, after {self._answer!r}."))


async def load(port: int, path: str, connections: int, seconds: float) -> dict[str, float]:
    waits: list[float] = []
    began = time.perf_counter()
    clients = []
    for _ in range(connections):
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(
            lambda: Client(path, began + seconds, waits), host="127.0.0.1", port=port
        )
        clients.append(client.done)
    async with asyncio.timeout(seconds + 30):
        await asyncio.gather(*clients)
    speed = len(waits) / (time.perf_counter() - began)
    return {"requests": len(waits), "speed": speed, "median": statistics.median(waits), "p99": p99(waits)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Put a server on loopback under load.")
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("connections", type=int)
    parser.add_argument("seconds", type=float)
    found = parser.parse_args()
    print(json.dumps(asyncio.run(load(found.port, found.path, found.connections, found.seconds))))
