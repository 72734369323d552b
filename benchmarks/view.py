"""
The load that a view bears when it fires a task, against the same view without a task, and with `create_task`.

    python -m benchmarks.view [--database postgresql] [--connections 32] [--quick]

The site runs under uvicorn with one process and no middleware, the load generator in another process. The task is a
no-op. Afterwards each answered request has its row, and all rows are SUCCESSFUL.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks import harness
from benchmarks.harness import POLL_PAUSE, ROOT, Report, Rows, run_child, wait_for

PATHS = {"without": "the view without", "create_task": "with create_task", "fire": "with fire"}
START_TIMEOUT = 30.0  # Seconds.


async def measure(report: Report, options: harness.Options) -> None:
    seconds = 1.0 if options.quick else 6.0
    with serve_site() as port, harness.watch_rows() as rows:
        for path in PATHS:
            await asyncio.to_thread(run_child, "load", port, path, options.connections, 0.5)  # Warms up.
        await delete_when_final(rows, 0)
        for _ in range(options.repeats):
            for path, way in PATHS.items():
                found = await asyncio.to_thread(run_child, "load", port, path, options.connections, seconds)
                report.add("requests per second", way, "requests/s", [found["speed"]])
                report.add("answer: median", way, "µs", [found["median"]])
                report.add("answer: p99", way, "µs", [found["p99"]])
                await delete_when_final(rows, found["requests"] if path == "fire" else 0)


async def delete_when_final(rows: Rows, at_least: int) -> None:
    await wait_for(lambda: not rows.is_any_live() and rows.count("status = 'SUCCESSFUL'") >= at_least, POLL_PAUSE)
    rows.delete()


@contextlib.contextmanager
def serve_site() -> Iterator[int]:
    """Start uvicorn and yield its port."""
    with contextlib.closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        port = int(found.getsockname()[1])
    command = [sys.executable, "-m", "uvicorn", "benchmarks.asgi:application", "--port", str(port)]
    command += ["--log-level", "warning", "--loop", "asyncio"]
    environment = {**os.environ, "BENCHMARKS_NO_MIDDLEWARE": "1"}
    server = subprocess.Popen(command, cwd=ROOT, env=environment)
    try:
        wait_until_it_listens(server, port)
        yield port
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(START_TIMEOUT)
        except subprocess.TimeoutExpired:
            server.kill()


def wait_until_it_listens(server: subprocess.Popen[bytes], port: int) -> None:
    end = time.monotonic() + START_TIMEOUT
    while time.monotonic() < end and server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError("uvicorn does not start.")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--connections", type=int, default=32, help="connections that send requests without a pause (default 32)"
    )


if __name__ == "__main__":
    harness.main(__doc__, measure, add_arguments=add_arguments)
