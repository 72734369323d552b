"""
django-tasks-db (with its db_worker) and django-tasks-local-db (in the process itself), on SQLite.

The row is committed when the call returns, and each state of each task is in the table. By default both look for new
rows once a second; db_worker carries out one task at a time, the local backend ten.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.peers.protocol import Answer, Request, answer, measure_system, wait_until_works, worker

POLL = 0.01  # Seconds, in the best setting.
WORKERS = 50
OPTIONS = {
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
    "init_command": "PRAGMA journal_mode=WAL;PRAGMA synchronous=NORMAL;",
}


async def measure(request: Request) -> Answer:
    is_local = request.database == "local"
    backend: dict[str, Any] = {"BACKEND": "django_tasks_db.DatabaseBackend"}
    if is_local:
        best = {"MAX_WORKERS": WORKERS, "POLL_INTERVAL": POLL} if request.is_best else {}
        backend = {"BACKEND": "django_tasks_local_db.LocalDBBackend", "OPTIONS": best}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        database = {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(Path(folder) / "rows.sqlite3"),
            "OPTIONS": OPTIONS,
        }
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "benchmarks.peers.django_settings",
            "BENCHMARKS_APPS": json.dumps(["django_tasks_local_db"] if is_local else []),
            "BENCHMARKS_DATABASE": json.dumps(database),
            "BENCHMARKS_TASKS": json.dumps(backend),
        }
        from asgiref.sync import sync_to_async

        await sync_to_async(set_up)()
        from benchmarks.peers.django_body import body

        async def fire(number: int) -> None:
            await body.aenqueue(number, request.body_seconds)

        command = ["-m", "django", "db_worker", "--no-startup-delay"]
        if request.is_best:
            command += ["--interval", str(POLL)]
        with contextlib.nullcontext() if is_local else worker(*command) as process, counting(database["NAME"]) as count:
            await body.aenqueue(0, 0)
            if process is not None:
                await wait_until_works(process, lambda: count() > 0)
            else:
                while not count():
                    await asyncio.sleep(POLL)
            return await measure_system(request, fire, lambda: count() - 1, pause=0.02)


def set_up() -> None:
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)


@contextmanager
def counting(path: object) -> Iterator[Any]:
    """Yield a function that counts the finished rows without Django."""
    import sqlite3

    connection = sqlite3.connect(str(path), isolation_level=None, timeout=20)
    query = "SELECT count(*) FROM django_tasks_database_dbtaskresult WHERE status = 'SUCCESSFUL'"
    try:
        yield lambda: int(connection.execute(query).fetchone()[0])
    finally:
        connection.close()


if __name__ == "__main__":
    answer(measure)
    sys.stdout.flush()
    os._exit(0)  # Else the threads of the local backend would keep the process alive.
