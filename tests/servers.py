"""Server processes for the acceptance tests, and queries of their database from outside."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx

from tests import databases
from tests.waiting import wait_for

ROOT = Path(__file__).parent.parent

_GUNICORN = "gunicorn --bind 127.0.0.1:{port} --log-level warning --worker-class"

# The arguments after `python -m`, by the name that tests use.
COMMANDS = {
    "uvicorn": "uvicorn tests.app.asgi:application --port {port} --log-level warning --loop asyncio",
    "hypercorn": "hypercorn tests.app.asgi:application --bind 127.0.0.1:{port} --log-level warning",
    "granian": "granian tests.app.asgi:application --interface asgi --port {port} --no-access-log --log-level warning",
    "daphne": "daphne tests.app.asgi:application --port {port} --verbosity 0",
    "gunicorn-uvicorn": f"{_GUNICORN} uvicorn_worker.UvicornWorker tests.app.asgi:application",
    "gunicorn-sync": f"{_GUNICORN} sync tests.app.wsgi:application",
    "gunicorn-gthread": f"{_GUNICORN} gthread --threads 4 tests.app.wsgi:application",
}


def find_port() -> int:
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Server:
    """
    A server with the test project: one process, or a parent with one worker.

    Args:
        name: a key of COMMANDS.
        flags: further arguments of its command line.
    """

    def __init__(
        self, folder: Path, database: Path, *, name: str = "uvicorn", flags: tuple[str, ...] = (), **environment: str
    ) -> None:
        self.folder = folder
        self.database = database
        self.name = name
        self.port = find_port()
        self.log_path = folder / f"server-{self.port}.log"
        self._flags = flags
        self.address = f"http://127.0.0.1:{self.port}"
        self._environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "TESTS_DB_DIR": str(folder),
            "TESTS_DB_NAME": str(database),
            **environment,
        }

    def manage(self, *arguments: str, **environment: str) -> str:
        """Run a management command on its database; return its output."""
        command = [sys.executable, "manage.py", *arguments]
        environment = {**self._environment, **environment}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self) -> None:
        command = [sys.executable, "-X", "dev", "-m", *COMMANDS[self.name].format(port=self.port).split(), *self._flags]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )
        # A server may close an idle connection just when a request is sent, and some servers wait for its end.
        limits = httpx.Limits(max_keepalive_connections=0)
        self.client = httpx.Client(base_url=self.address, timeout=30, limits=limits)
        self.wait_until(self._answers, "it answers")

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log
        try:
            return self.client.get("/state").status_code == 200
        except httpx.TransportError:
            return False

    def fire(self, name: str, *args: object, times: int = 1, sync: bool = False, **query: Any) -> list[str]:
        """
        Fire a task by a request; return the ids. "{}" in the arguments is replaced by the number of the firing.

        Args:
            sync: use the sync view.
        """
        path = f"/fire-sync/{name}" if sync else f"/fire/{name}"
        answer = self.client.get(path, params={"args": json.dumps(args), "times": times, **query})
        answer.raise_for_status()
        return list(answer.json()["ids"])

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def stop(self, number: int = signal.SIGTERM, timeout: float = 30) -> int:
        self.process.send_signal(number)
        return self.wait(timeout)

    def wait(self, timeout: float = 30) -> int:
        self.client.close()
        return self.process.wait(timeout)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # With its workers, even if only they still run.
        self.process.wait()
        self.client.close()

    def count_connections(self) -> int:
        if databases.KIND == "sqlite":
            return int(self.client.get("/state").json()["connections"])
        # The smaller of two counts: the server may still list a connection that our own query has closed.
        first = databases.count_connections(self.database)
        time.sleep(0.02)
        return min(first, databases.count_connections(self.database))

    def query(self, statement: str) -> list[dict[str, Any]]:
        return databases.query(self.database, statement)

    def rows(self) -> list[dict[str, Any]]:
        return self.query("SELECT * FROM bgtasks_backgroundtask ORDER BY id")

    def count_by_status(self) -> dict[str, int]:
        found = self.query("SELECT status, COUNT(*) AS number FROM bgtasks_backgroundtask GROUP BY status")
        return {row["status"]: row["number"] for row in found}

    def wait_for_statuses(self, expected: dict[str, int], seconds: float = 60) -> None:
        self.wait_until(lambda: self.count_by_status() == expected, f"the rows are {expected}", seconds)

    def wait_until(self, condition: Callable[[], Any], expected: str, seconds: float = 30) -> None:
        wait_for(condition, expected, seconds, lambda: f"{self.count_by_status()}\n{self.log}")
