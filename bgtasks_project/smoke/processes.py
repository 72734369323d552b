"""Starts the demo server and the receivers as processes, and ends them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 30
GRACEFUL_SECONDS = 5  # For open requests, before the drain begins.


class ProcessFailed(Exception):
    """A process that the run needs has failed."""


@contextlib.contextmanager
def receiver(kind: str, log: Path) -> Iterator[int]:
    """Run a receiver ("mail" or "webhooks"); yield its port."""
    command = [sys.executable, "-m", "bgtasks_project.smoke.receivers", kind, str(log)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise ProcessFailed(f"The {kind} receiver did not start.")
        yield int(line)
        # Leaving the block closes its standard input, and so ends it.


class Server:
    """
    The demo under uvicorn, with its data in a folder of its own.

    Args:
        folder: for the database, mails, reports and `server.log`.
        environment: further environment variables, such as DEMO_SMTP_PORT.
    """

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.database = folder / "demo.sqlite3"
        self.log = folder / "server.log"
        self.address = f"http://127.0.0.1:{_free_port()}"
        self._environment = {
            **os.environ,
            "DEMO_VAR_DIR": str(folder),
            "DEMO_DEBUG": "true",
            "DJANGO_SETTINGS_MODULE": "bgtasks_project.settings",
            "PYTHONUNBUFFERED": "1",
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def manage(self, *arguments: str) -> str:
        """Run a management command on the database of the demo; return its output."""
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=self._environment, capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise ProcessFailed(f"manage.py {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def start(self) -> None:
        """
        Start the server and return once it answers.

        Raises:
            ProcessFailed: if it ends, or does not answer within 30 seconds; with its log.
        """
        command = [sys.executable, "-m", "uvicorn", "bgtasks_project.asgi:application"]
        command += ["--port", self.address.rpartition(":")[2], "--timeout-graceful-shutdown", str(GRACEFUL_SECONDS)]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        until = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                self.kill()
                raise ProcessFailed(f"The demo server did not start:\n{self.log.read_text()}")
            time.sleep(0.05)

    def terminate(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float) -> bool:
        """Return whether the server ended by itself within that time; otherwise kill it."""
        assert self._process is not None
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return False
        return True

    def kill(self) -> None:
        """End the server at once, if it still runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}/live", timeout=5) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError as error:
            error.close()
            return False
        except OSError:
            return False


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
