"""Checks that the runtime, and other processes, can work on the database of a test."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from django.db import connections, router

from ..models import BackgroundTask


def check_database() -> None:
    """
    Check that other threads and processes can work on the test's database.

    Raises:
        RuntimeError: the test has a transaction, or an SQLite database in memory.
    """
    check_transaction()
    connection = connections[router.db_for_write(BackgroundTask)]
    if connection.vendor == "sqlite" and connection.is_in_memory_db():  # type: ignore[attr-defined]  # SQLite's own.
        raise RuntimeError(
            "Live mode needs a test database that several threads can write. SQLite in memory is not such a one: set "
            f'DATABASES["{connection.alias}"]["TEST"] = {{"NAME": BASE_DIR / "test.sqlite3"}}.'
        )
    was_open = connection.connection is not None
    connection.ensure_connection()  # Raises at once if the test may not use the database.
    if not was_open:
        connection.close()


def check_transaction() -> None:
    """
    Check that no transaction hides the rows of the test.

    Raises:
        RuntimeError: this thread has a transaction.
    """
    if connections[router.db_for_write(BackgroundTask)].in_atomic_block:
        raise RuntimeError(
            "Live mode has connections of its own, which do not see the changes of this test in its transaction. Use "
            "TransactionTestCase, or with pytest `django_db(transaction=True)` or the fixture `bgtasks_live`."
        )


@contextlib.contextmanager
def as_sync_code() -> Iterator[None]:
    """Find the connections of this thread in the block as sync code finds them: on a loop asgiref hides them."""
    loop = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(loop)
