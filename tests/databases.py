"""The database of a test run, chosen by TESTS_DB (sqlite, postgresql, mariadb), and connections from outside."""

from __future__ import annotations

import os
import re
import secrets
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

KINDS = ("sqlite", "postgresql", "mariadb")
KIND = os.environ.get("TESTS_DB") or "sqlite"
if KIND not in KINDS:
    raise ValueError(f"TESTS_DB is {KIND!r}. It may be: {', '.join(KINDS)}.")

LANES = 1 if KIND == "sqlite" else 4
MAINTENANCE = "mysql" if KIND == "mariadb" else "postgres"  # A database that always exists.

_HOST = os.environ.get("TESTS_DB_HOST", "127.0.0.1")
_PORT = int(os.environ.get("TESTS_DB_PORT") or (3306 if KIND == "mariadb" else 5432))
_USER = os.environ.get("TESTS_DB_USER", "root" if KIND == "mariadb" else "postgres")
_PASSWORD = os.environ.get("TESTS_DB_PASSWORD", "")

# A part of the names of this run's databases: the begin of the run, by which those of killed runs are found, and a
# random part, for runs in other checkouts and containers. Child processes inherit it.
RUN = os.environ.setdefault("TESTS_DB_RUN", f"{int(time.time())}_{secrets.token_hex(3)}")
_OURS = re.compile(r"(?:test_)?bgtasks_(?P<began>\d{10})_(?P<rest>[0-9a-f]{6}.*)")
_LEFT_AFTER = 6 * 3600  # Seconds: longer than any run takes.


def settings_for(folder: Path) -> dict[str, Any]:
    """Return Django's settings of the database that the environment chooses."""
    name = os.environ.get("TESTS_DB_NAME", f"bgtasks_{RUN}")
    server = {"NAME": name, "HOST": _HOST, "PORT": _PORT, "USER": _USER, "PASSWORD": _PASSWORD}
    if KIND == "postgresql":
        return {"ENGINE": "django.db.backends.postgresql", **server}
    if KIND == "mariadb":
        return {"ENGINE": "django.db.backends.mysql", **server, "OPTIONS": {"charset": "utf8mb4"}}
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": folder / "db.sqlite3",
        "TEST": {"NAME": folder / "test.sqlite3"},  # A file, since threads of the runtime read it too.
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL;PRAGMA synchronous=NORMAL;",
        },
    }


def libpq_settings() -> str:
    """Return the address of PostgreSQL in the form of its client library."""
    return f"host={_HOST} port={_PORT} user={_USER}" + (f" password={_PASSWORD}" if _PASSWORD else "")


def connect(name: str, autocommit: bool = True, port: int = _PORT) -> Any:
    """
    Connect to a database as another program would.

    Args:
        name: the file of an SQLite database, the name of another one.
    """
    if KIND == "postgresql":
        import psycopg
        from psycopg.rows import dict_row
        from psycopg.types.string import TextLoader

        server = {"host": _HOST, "port": port, "user": _USER, "password": _PASSWORD or None}
        connection = psycopg.connect(dbname=name, autocommit=autocommit, row_factory=dict_row, **server)
        for kind in ("jsonb", "uuid"):
            connection.adapters.register_loader(kind, TextLoader)
        return connection
    if KIND == "mariadb":
        import MySQLdb
        from MySQLdb.cursors import DictCursor

        server = {"host": _HOST, "port": port, "user": _USER, "password": _PASSWORD}
        connection = MySQLdb.connect(db=name, cursorclass=DictCursor, **server)
        connection.autocommit(autocommit)
        return connection
    connection = sqlite3.connect(name, timeout=20, check_same_thread=False, isolation_level=None)
    connection.row_factory = sqlite3.Row
    return connection


def query(name: str, statement: str) -> list[dict[str, Any]]:
    with closing(connect(name)) as connection:
        cursor = connection.cursor()
        cursor.execute(statement)
        return [dict(row) for row in cursor.fetchall()] if cursor.description else []


def find_fault() -> str:
    """Return the reason why the database cannot be used; empty if there is none."""
    if KIND == "sqlite":
        return ""
    try:
        query(MAINTENANCE, "SELECT 1")
    except ImportError as error:
        return f"{KIND} cannot be tested: {error}. `make test DB={KIND}` installs the driver."
    except Exception as error:
        return (
            f"{KIND} cannot be reached as {_USER} at {_HOST}:{_PORT}: {error}\n"
            "TESTS_DB_HOST, TESTS_DB_PORT, TESTS_DB_USER and TESTS_DB_PASSWORD say where it is."
        )
    return ""


def make_database(folder: Path) -> str:
    """Return the name of a new, migrated database: on SQLite its file."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    name = f"bgtasks_{RUN}_servers_{worker}"
    if KIND != "sqlite":
        drop_database(name)
        query(MAINTENANCE, f"CREATE DATABASE {name}")
    root = Path(__file__).parent.parent
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "TESTS_DB_DIR": str(folder),
        "TESTS_DB_NAME": name,
    }
    subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=root, env=environment, check=True)
    if KIND != "sqlite":
        return name
    path = str(folder / "db.sqlite3")
    query(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    return path


def drop_database(name: str) -> None:
    """Drop a database even if it is in use."""
    if KIND == "postgresql":
        query(MAINTENANCE, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    elif KIND == "mariadb":
        # The statement would wait for an open transaction.
        for row in query(MAINTENANCE, f"SELECT id FROM information_schema.processlist WHERE db = '{name}'"):
            with suppress(Exception):  # It may have ended by itself.
                query(MAINTENANCE, f"KILL {row['id']}")
        query(MAINTENANCE, f"DROP DATABASE IF EXISTS {name}")


def drop_databases_of_run() -> None:
    """Drop databases that this run has left: a failed test may have kept a connection, which prevents the drop."""
    for name, _, rest in _find_ours():
        if rest.startswith(RUN.partition("_")[2]):
            drop_database(name)


def drop_old_databases() -> None:
    """Drop the databases of killed runs, but not of recent ones, which may still go on."""
    for name, began, _ in _find_ours():
        if began < time.time() - _LEFT_AFTER:
            drop_database(name)


def _find_ours() -> list[tuple[str, int, str]]:
    """Return the databases of test runs: name, begin of the run, rest of the name."""
    if KIND == "sqlite":
        return []
    tables = {"postgresql": "SELECT datname AS name FROM pg_database", "mariadb": "SHOW DATABASES"}
    names = [next(iter(row.values())) for row in query(MAINTENANCE, tables[KIND])]
    found = [match for name in names if (match := _OURS.fullmatch(name))]
    return [(match[0], int(match["began"]), match["rest"]) for match in found]


def empty(name: str) -> None:
    """Delete the rows of earlier tests."""
    ours = ("backgroundtask", "process", "drain", "ledger", "rollup")
    for table in (*(f"bgtasks_{one}" for one in ours), "auth_group"):
        query(name, f"DELETE FROM {table}")


def count_connections(name: str) -> int:
    """Count the other connections to a database; not on SQLite, which has no server to ask."""
    if KIND == "postgresql":
        found = query(MAINTENANCE, f"SELECT count(*) AS number FROM pg_stat_activity WHERE datname = '{name}'")
    else:
        found = query(MAINTENANCE, f"SELECT count(*) AS number FROM information_schema.processlist WHERE db = '{name}'")
    return int(found[0]["number"])


class WriteLock:
    """Blocks writes of tasks, as a transaction of another program does."""

    def __init__(self, name: str, tables: Sequence[str] = ("bgtasks_backgroundtask",)) -> None:
        self._name = name
        self._tables = tables

    def __enter__(self) -> WriteLock:
        self._connection = connect(self._name, autocommit=False)
        cursor = self._connection.cursor()
        if KIND == "postgresql":
            cursor.execute(f"LOCK TABLE {', '.join(self._tables)} IN EXCLUSIVE MODE")
        elif KIND == "mariadb":
            cursor.execute(f"LOCK TABLES {', '.join(f'{table} READ' for table in self._tables)}")
        else:
            cursor.execute("BEGIN IMMEDIATE")
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.close()
