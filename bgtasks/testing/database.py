"""Whether others than the test itself can work on its database."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from django.db import connections, router

from ..models import BackgroundTask


def check_database() -> None:
    """Raise if the runtime could not work on the test's database."""
    check_transaction()
    connection = connections[router.db_for_write(BackgroundTask)]
    if connection.vendor == "sqlite" and connection.is_in_memory_db():  # type: ignore[attr-defined]  # SQLite's own.
        raise RuntimeError(
            "Live mode needs a test database that several threads can write, and SQLite in memory is none. Set "
            f'DATABASES["{connection.alias}"]["TEST"] = {{"NAME": BASE_DIR / "test.sqlite3"}}.'
        )
    was_open = connection.connection is not None
    connection.ensure_connection()  # Where a test may not use the database, this says so at once.
    if not was_open:
        connection.close()


def check_transaction() -> None:
    if connections[router.db_for_write(BackgroundTask)].in_atomic_block:
        raise RuntimeError(
            "Live mode works with connections of its own, which do not see what this test does in its transaction. Use "
            "TransactionTestCase, or with pytest `django_db(transaction=True)` or the fixture `bgtasks_live`."
        )


@contextlib.contextmanager
def as_sync_code() -> Iterator[None]:
    """Have this thread's connections looked up as sync code does: on a loop asgiref hides them."""
    loop = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(loop)
