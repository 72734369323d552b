"""Counts the database connections that the package's own threads have open, without asking a database or a thread."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

# By thread: what it has opened so far, and may have closed. Operations on these are atomic.
_opened: dict[int, list[BaseDatabaseWrapper]] = {}


@contextmanager
def own_connections() -> Iterator[None]:
    """Count the connections that the current thread opens meanwhile, and close them at the end."""
    thread = threading.get_ident()
    _opened[thread] = []
    try:
        yield
    finally:
        _opened.pop(thread, None)
        connections.close_all()


def count_own_connections() -> int:
    """Return how many are open. From any thread."""
    return sum(each.connection is not None for opened in list(_opened.values()) for each in tuple(opened))


def _note(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    opened = _opened.get(threading.get_ident())
    if opened is not None and connection not in opened:
        opened.append(connection)


connection_created.connect(_note, dispatch_uid="bgtasks")
os.register_at_fork(after_in_child=_opened.clear)  # The threads stay behind.
