"""
How long each server takes to stop, and its answers meanwhile. Prints the table that docs/servers.md quotes.

    .venv/bin/python -m benchmarks.servers [NAME…]

Each server has a SQLite file of its own, one worker, and no flags that matter here. Seconds count from SIGTERM to the
end of the last process.
"""

from __future__ import annotations

import argparse
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from tests import databases
from tests.servers import COMMANDS, Server


def stop_idle(server: Server) -> str:
    return time_stop(server)


def stop_with_a_task(server: Server) -> str:
    server.fire("sleep", 1.0)
    return time_stop(server)


def stop_with_a_request_and_a_task(server: Server) -> str:
    """Stop while a request takes 2 s more, and its task 3 s: are both finished, and one after the other?"""
    answers: list[str] = []

    def ask() -> None:
        try:
            params = {"args": "[3.0]", "linger": "2"}
            answers.append(
                str(httpx.get(f"{server.client.base_url}/fire/sleep", params=params, timeout=20).status_code)
            )
        except httpx.TransportError as error:
            answers.append(type(error).__name__)

    thread = threading.Thread(target=ask)
    thread.start()
    server.wait_until(lambda: server.count_by_status() == {"RUNNING": 1}, "the request has fired")
    seconds = time_stop(server)
    thread.join()
    return f"{seconds}, request: {answers[0]}, task: {', '.join(server.count_by_status())}"


def ask_during_the_drain(server: Server) -> str:
    server.fire("sleep", 2.0)
    server.process.send_signal(signal.SIGTERM)
    server.wait_until(
        lambda: server.query("SELECT 1 FROM bgtasks_process WHERE state = 'DRAINING'"), "the drain has begun"
    )
    try:
        answer = str(httpx.get(f"{server.client.base_url}/state", timeout=1).status_code)
    except httpx.TransportError as error:
        answer = type(error).__name__
    server.wait()
    return answer


def time_stop(server: Server) -> str:
    began = time.monotonic()
    status = server.stop(timeout=60)
    return f"{time.monotonic() - began:.1f} s, exit {status}"


MEASURES: dict[str, Callable[[Server], str]] = {
    "nothing runs": stop_idle,
    "a task of 1 s": stop_with_a_task,
    "a request of 2 s that fired a task of 3 s": stop_with_a_request_and_a_task,
    "a request during the drain": ask_during_the_drain,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="How long each server takes to stop.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(COMMANDS)}")
    names = parser.parse_args().names or list(COMMANDS)
    table = Table("server", *MEASURES)
    for name in names:
        table.add_row(f"{name} {metadata.version(name.split('-')[0])}", *[measure(name, f) for f in MEASURES.values()])
    Console(width=200).print(table)


def measure(name: str, function: Callable[[Server], str]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        database = databases.make_database(Path(folder))
        server = Server(Path(folder), Path(database), name=name, TESTS_DRAIN_TIMEOUT="20")
        try:
            server.start()
            return function(server)
        finally:
            server.kill()


if __name__ == "__main__":
    main()
