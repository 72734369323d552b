"""
Private databases for the harness to mistreat: one class for each kind, with its outages.

For root the database server is started as another user, since neither PostgreSQL nor MariaDB runs as root.
"""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

LONGEST_START = 60  # Seconds.


class Missing(Exception):
    """The database is not installed on this machine."""


class Database:
    """
    The interface of each database for the harness.

    `outages` names the methods that make it unusable for a number of seconds, their argument.
    """

    outages: tuple[str, ...] = ()
    user = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def settings(self) -> dict[str, Any]:
        """Return its settings for Django."""
        raise NotImplementedError

    def start(self) -> None:
        """Create the database, or start its server again."""

    def stop(self) -> None:
        """Stop the server and delete its data."""

    def mend(self) -> None:
        """Undo the effects of an outage."""


class SQLite(Database):
    outages = ("lock", "fill_disk")

    def settings(self) -> dict[str, Any]:
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(self.folder / "db.sqlite3"),
            "OPTIONS": {
                "transaction_mode": "IMMEDIATE",
                "timeout": 20,
                "init_command": "PRAGMA journal_mode=WAL;PRAGMA synchronous=NORMAL;",
            },
        }

    def lock(self, seconds: float) -> None:
        """Lock the database for writers by a transaction."""
        with closing(self._connect()) as connection:
            connection.execute("BEGIN IMMEDIATE")
            time.sleep(seconds)
            connection.rollback()

    def fill_disk(self, seconds: float) -> None:
        """Fill the disk, as far as `project.disk` is concerned; the caller informs the servers."""
        path = self.folder / "disk-is-full"
        path.touch()
        time.sleep(seconds)
        path.unlink()

    def mend(self) -> None:
        (self.folder / "disk-is-full").unlink(missing_ok=True)

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.folder / "db.sqlite3", timeout=10, isolation_level=None)


class _Cluster(Database):
    """A database server of the harness."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.data: Path | None = None
        with closing(socket.socket()) as found:
            found.bind(("127.0.0.1", 0))
            self.port = int(found.getsockname()[1])

    def _run(self, *command: object) -> None:
        """
        Run a program of the database.

        Raises:
            RuntimeError: the program failed; with its output.
        """
        parts = [str(part) for part in command]
        found = subprocess.run(parts, capture_output=True, text=True, cwd="/", **self._as_user())
        if found.returncode:
            raise RuntimeError(f"{parts[0]} exited with {found.returncode}: {found.stdout}{found.stderr}")

    def _as_user(self) -> dict[str, Any]:
        if os.getuid() != 0:
            return {}
        entry = pwd.getpwnam(self.user)
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}

    def _make_folder(self) -> Path:
        """Make the data folder in the system's temporary folder: the other user may not enter ours."""
        self.data = Path(tempfile.mkdtemp(prefix=f"chaos-{self.user}-"))
        if os.getuid() == 0:
            shutil.chown(self.data, self.user)
        return self.data

    def _remove_folder(self) -> None:
        if self.data is not None:
            shutil.rmtree(self.data, ignore_errors=True)

    def _wait(self, connect: Callable[[], Any]) -> None:
        end = time.monotonic() + LONGEST_START
        while True:
            try:
                connect().close()
            except Exception:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)
            else:
                return


class PostgreSQL(_Cluster):
    outages = ("restart", "crash", "refuse", "cut", "lock", "make_read_only")
    user = "postgres"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
        initdb = found[-1] if found else shutil.which("initdb")
        if initdb is None:
            raise Missing("PostgreSQL's initdb is not installed.")
        self.bin = Path(initdb).parent

    def settings(self) -> dict[str, Any]:
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": "chaos",
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "USER": "postgres",
            "OPTIONS": {"connect_timeout": 5},
        }

    def start(self) -> None:
        if self.data is None:
            data = self._make_folder()
            self._run(self.bin / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-N", "--locale=C.UTF-8")
            # Only processes are killed, never the system, which keeps the pages that they wrote.
            with (data / "postgresql.conf").open("a") as file:
                file.write(
                    f"\nport = {self.port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\n"
                    "fsync = off\nmax_connections = 60\nshared_buffers = 16MB\nlog_min_messages = fatal\n"
                )
            self._up()
            self._execute("CREATE DATABASE chaos")
        else:
            self._up()

    def _up(self) -> None:
        assert self.data is not None  # `start` has made it.
        log = self.data / "log"
        end = time.monotonic() + LONGEST_START
        while True:  # After a crash the last child processes may live for a moment.
            try:
                self._run(self.bin / "pg_ctl", "start", "-D", self.data, "-l", log, "-w", "-t", LONGEST_START)
            except RuntimeError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)
            else:
                return

    def _down(self, mode: str) -> None:
        self._run(self.bin / "pg_ctl", "stop", "-D", self.data, "-m", mode, "-w")

    def stop(self) -> None:
        if self.data is not None and (self.data / "postmaster.pid").exists():
            self._down("immediate")
        self._remove_folder()

    def restart(self, seconds: float) -> None:
        """Stop the server as an administrator does, and start it again."""
        self._down("fast")
        time.sleep(seconds)
        self._up()

    def crash(self, seconds: float) -> None:
        """Kill the server; it recovers from its log."""
        assert self.data is not None  # The server runs.
        pid = int((self.data / "postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, signal.SIGKILL)
        time.sleep(seconds)
        self._up()

    def refuse(self, seconds: float) -> None:
        """Cut all connections and refuse new ones, as when there are too many."""
        self._execute("ALTER DATABASE chaos ALLOW_CONNECTIONS false")
        self.cut(0)
        time.sleep(seconds)
        self.mend()

    def cut(self, seconds: float) -> None:
        """Cut all connections."""
        self._execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'chaos'")
        time.sleep(seconds)

    def lock(self, seconds: float) -> None:
        """Block writes of tasks and beats, by a transaction."""
        with closing(self._connect("chaos", autocommit=False)) as connection:
            connection.execute("LOCK TABLE bgtasks_backgroundtask, bgtasks_process IN EXCLUSIVE MODE")
            time.sleep(seconds)

    def make_read_only(self, seconds: float) -> None:
        """Cut all connections and make new ones read-only, as behind an address that moved to a replica."""
        self._execute("ALTER DATABASE chaos SET default_transaction_read_only = on")
        self.cut(0)
        time.sleep(seconds)
        self.mend()

    def mend(self) -> None:
        self._execute("ALTER DATABASE chaos ALLOW_CONNECTIONS true")
        self._execute("ALTER DATABASE chaos RESET default_transaction_read_only")
        # Connections made while it was read-only stay read-only until they are cut.
        self.cut(0)

    def _connect(self, name: str = "postgres", autocommit: bool = True) -> Any:
        import psycopg

        return psycopg.connect(
            host="127.0.0.1", port=self.port, user="postgres", dbname=name, autocommit=autocommit, connect_timeout=5
        )

    def _execute(self, statement: str) -> None:
        with closing(self._connect()) as connection:
            connection.execute(statement)


class MariaDB(_Cluster):
    outages = ("restart", "crash", "cut", "lock", "make_read_only")
    user = "mysql"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        paths = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
        server, install = shutil.which("mariadbd", path=paths), shutil.which("mariadb-install-db", path=paths)
        if server is None or install is None:
            raise Missing("MariaDB's server is not installed.")
        self._server, self._install = server, install
        self._process: subprocess.Popen[bytes] | None = None

    def settings(self) -> dict[str, Any]:
        return {
            "ENGINE": "django.db.backends.mysql",
            "NAME": "chaos",
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "USER": "chaos",
            "PASSWORD": "",
            "OPTIONS": {"charset": "utf8mb4", "connect_timeout": 5},
        }

    def start(self) -> None:
        if self.data is None:
            data = self._make_folder()
            normal = "--auth-root-authentication-method=normal"
            self._run(self._install, "--no-defaults", f"--datadir={data}", normal, "--skip-test-db")
            self._up()
            for statement in (
                "CREATE DATABASE chaos CHARACTER SET utf8mb4",
                "CREATE USER chaos@'127.0.0.1'",
                "GRANT ALL ON chaos.* TO chaos@'127.0.0.1'",
            ):
                self._execute(statement)
        else:
            self._up()

    def _up(self) -> None:
        # Only processes are killed, never the system, which keeps the pages that they wrote.
        options = f"""--no-defaults --datadir={self.data} --port={self.port} --bind-address=127.0.0.1
            --socket={self.data}/socket --pid-file={self.data}/pid --innodb-flush-log-at-trx-commit=2
            --innodb-buffer-pool-size=32M --skip-name-resolve --log-error={self.data}/error.log"""
        self._process = subprocess.Popen(
            [self._server, *options.split()],
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            **self._as_user(),
        )
        self._wait(self._connect)

    def _down(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(LONGEST_START)
            self._process = None

    def stop(self) -> None:
        self._down(signal.SIGKILL)
        self._remove_folder()

    def restart(self, seconds: float) -> None:
        """Stop the server as an administrator does, and start it again."""
        self._down(signal.SIGTERM)
        time.sleep(seconds)
        self._up()

    def crash(self, seconds: float) -> None:
        """Kill the server; it recovers from its log."""
        self._down(signal.SIGKILL)
        time.sleep(seconds)
        self._up()

    def cut(self, seconds: float) -> None:
        """Cut all connections."""
        self._execute("KILL CONNECTION USER chaos@'127.0.0.1'")
        time.sleep(seconds)

    def lock(self, seconds: float) -> None:
        """Block writes of tasks and beats."""
        with closing(self._connect("chaos")) as connection:
            connection.cursor().execute("LOCK TABLES bgtasks_backgroundtask READ, bgtasks_process READ")
            time.sleep(seconds)

    def make_read_only(self, seconds: float) -> None:
        """Refuse writes, as a server that has become a replica."""
        self._execute("SET GLOBAL read_only = 1")
        time.sleep(seconds)
        self.mend()

    def mend(self) -> None:
        self._execute("SET GLOBAL read_only = 0")

    def _connect(self, name: str = "mysql") -> Any:
        import MySQLdb

        return MySQLdb.connect(unix_socket=f"{self.data}/socket", user="root", db=name, connect_timeout=5)

    def _execute(self, statement: str) -> None:
        with closing(self._connect()) as connection:
            connection.cursor().execute(statement)


KINDS: dict[str, type[Database]] = {"sqlite": SQLite, "postgresql": PostgreSQL, "mariadb": MariaDB}
