"""A rate holds over several processes, measured by an API that refuses requests above it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.servers import Server

PER_SECOND = 22  # Tasks fired per second, while the API takes five.
ALLOWED = 5
# RATE_SECONDS=45 takes four minutes; only the length differs.
SECONDS = float(os.environ.get("RATE_SECONDS", "3"))


class Api:
    """
    Takes five requests in any second, and answers further ones with 429.

    The moment at which a request was sent counts, since the test's process may be slow to read it.
    """

    def __init__(self) -> None:
        self.taken: list[tuple[float, int]] = []
        self.refused = 0
        self._lock = threading.Lock()

    def take(self, sent: float, number: int) -> bool:
        with self._lock:
            if sum(abs(at - sent) < 1 for at, _ in self.taken) >= ALLOWED and self._is_too_much(sent):
                self.refused += 1
                return False
            self.taken.append((sent, number))
            return True

    def _is_too_much(self, sent: float) -> bool:
        """Report whether some second with this request has more than five; requests may arrive in another order."""
        near = sorted([at for at, _ in self.taken if abs(at - sent) < 1] + [sent])
        return any(last - first < 1 for first, last in zip(near, near[ALLOWED:], strict=False))


@pytest.fixture
def api() -> Iterator[tuple[Api, str]]:
    api = Api()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent, number = self.rfile.read(int(self.headers["Content-Length"])).split()
            self.send_response(200 if api.take(float(sent), int(number)) else 429)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield api, f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


@pytest.mark.slow
def test_two_processes_never_call_an_api_too_often(start_server: Callable[..., Server], api: tuple[Api, str]) -> None:
    taken, url = api
    servers = [start_server(), start_server()]
    began = time.monotonic()
    ids: list[str] = []
    while time.monotonic() < began + SECONDS:
        ids += servers[len(ids) % 2].fire("call_api", url, len(ids), recorded=1)
        time.sleep(max(began + len(ids) / PER_SECOND - time.monotonic(), 0))

    def is_over() -> bool:
        return all(row["status"] not in ("READY", "RUNNING") for row in servers[0].rows())

    servers[0].wait_until(is_over, "all are over", seconds=60 + len(ids) / 3)
    assert taken.refused == 0
    assert {number for _, number in taken.taken} == set(range(len(ids)))
    rows = servers[0].rows()
    assert {row["status"] for row in rows} == {"SUCCESSFUL"}
    # The rate is used: no process keeps starts that the other one could have.
    times = sorted(at for at, _ in taken.taken)
    assert times[-1] - times[0] < 2 + len(ids) / ALLOWED * 3
