"""A full disk for SQLite: while a certain file exists, no connection may let the database grow."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import connection
from django.db.backends.signals import connection_created

FULL = settings.FOLDER / "disk-is-full"


def limit(connection: Any, **kwargs: object) -> None:
    if connection.vendor == "sqlite" and FULL.exists():
        connection.connection.execute("PRAGMA max_page_count = 1")  # SQLite raises it to the pages in use.


def limit_open_connection() -> None:
    connection.ensure_connection()
    limit(connection)


connection_created.connect(limit)
