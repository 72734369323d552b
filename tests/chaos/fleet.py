"""The fleet: the servers that live, the ends of earlier ones, and the signals to them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent


@dataclass
class Server:
    """One server process. It is `dying` from the signal that ends it."""

    pid: int
    port: int
    started_at: float  # Seconds since the epoch, as are all moments of the harness.
    ended_at: float | None = None
    code: int | None = None
    dying: bool = False
    acts: list[tuple[float, str]] = field(default_factory=list)  # The acts against it, with their moments.


class Fleet:
    """Keeps `size` servers alive: a server that ends is replaced at once."""

    def __init__(self, folder: Path, environment: dict[str, str], size: int) -> None:
        self.size = size
        self.servers: dict[int, Server] = {}
        self.folder = folder
        self._changed = threading.Condition()
        self._nursery = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.nursery"],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C must reach only the harness, which ends the servers.
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        for _ in range(size):
            self._order(start=str(folder))

    def _order(self, **values: Any) -> None:
        assert self._nursery.stdin is not None
        self._nursery.stdin.write(json.dumps(values) + "\n")
        self._nursery.stdin.flush()

    def _read(self) -> None:
        assert self._nursery.stdout is not None
        for line in self._nursery.stdout:
            report = json.loads(line)
            with self._changed:
                if "started" in report:
                    self.servers[report["started"]] = Server(report["started"], report["port"], time.time())
                else:
                    server = self.servers[report["ended"]]
                    server.ended_at, server.code, server.dying = time.time(), report["code"], True
                    self._order(start=str(self.folder))
                self._changed.notify_all()

    def alive(self) -> list[Server]:
        """Return the live servers that are not dying, oldest first."""
        with self._changed:
            return [server for server in self.servers.values() if not server.dying]

    def wait_until_whole(self, seconds: float = 20) -> None:
        with self._changed:
            is_whole = self._changed.wait_for(lambda: self._count() == self.size, seconds)
        assert is_whole, f"{self._count()} servers instead of {self.size}"

    def _count(self) -> int:
        return sum(server.ended_at is None for server in self.servers.values())

    def signal(self, server: Server, number: int, what: str, ends: bool = False) -> None:
        """Send a signal and remember it as an act."""
        with self._changed:
            server.acts.append((time.time(), what))
            server.dying = server.dying or ends
            self._order(signal=number, pid=server.pid)

    def stop(self) -> None:
        """End the nursery, which kills its servers."""
        assert self._nursery.stdin is not None
        self._nursery.stdin.close()
        self._nursery.wait(20)
        self._reader.join(5)
