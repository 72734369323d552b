"""
The database connections of the package's own threads: how many are open, and what becomes of them at a fork.

A forked child inherits SQLite's account of who holds which lock. While it has a connection of its parent's, it takes
the parent's locks for its own; in the midst of a transaction of the parent's, the file is locked for it for good. See
2.7 of https://www.sqlite.org/howtocorrupt.html.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

LONGEST_WAIT = 5.0  # Seconds. Whoever forks is not held up for ever by a database that does not answer.

# By thread: what it has opened so far, and may have closed. Operations on these are atomic.
_opened: dict[int, list[BaseDatabaseWrapper]] = {}
_idle: set[int] = set()  # The threads that are in an `unused_connections`.
_considerate: set[int] = set()  # The threads that use theirs in `no_forks` only.
# From threads that stayed behind at a fork. Kept even from the garbage collector, which would close them.
_inherited: list[BaseDatabaseWrapper] = []
_to_close: list[Any] = []  # What of it can be closed: connections of the driver.

_gate = threading.RLock()  # A receiver of a signal may fork on the journal's own thread.
_has_gate = False  # Whether the last fork has.


@contextmanager
def own_connections(is_considerate: bool = False) -> Iterator[None]:
    """
    Count the connections that the current thread opens meanwhile, and close them at the end.

    Args:
        is_considerate: it uses them in `no_forks` only.
    """
    thread = threading.get_ident()
    _opened[thread] = []
    if is_considerate:
        _considerate.add(thread)
    try:
        while _to_close:  # Here, since it waits for ever if another thread was within SQLite at the fork.
            _to_close.pop().close()
        yield
    finally:
        try:
            with no_forks() if is_considerate else nullcontext():
                connections.close_all()
        finally:
            _opened.pop(thread, None)
            _considerate.discard(thread)


@contextmanager
def unused_connections() -> Iterator[None]:
    """Say that the current thread uses none of its connections meanwhile."""
    thread = threading.get_ident()
    _idle.add(thread)
    try:
        yield
    finally:
        _idle.discard(thread)


@contextmanager
def no_forks() -> Iterator[None]:
    """Have forks wait for the end of the block. A fork of this thread does not."""
    with _gate:
        yield


def count_own_connections() -> int:
    """Return how many are open, without asking a database or a thread. From any thread."""
    return sum(each.connection is not None for opened in list(_opened.values()) for each in tuple(opened))


def _note(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    opened = _opened.get(threading.get_ident())
    if opened is not None and connection not in opened:
        opened.append(connection)


def _wait() -> None:
    global _has_gate
    _has_gate = _gate.acquire(timeout=LONGEST_WAIT)


def _go_on() -> None:
    with suppress(RuntimeError):  # It was not acquired in time.
        _gate.release()


def _leave_behind() -> None:
    """
    Tell, in the child, what can be closed.

    In the midst of a statement that would wait for ever, in the midst of a transaction change what the parent is at,
    and another database than SQLite would take it for the parent's end.
    """
    global _gate
    _gate = threading.RLock()  # Whoever holds the other one may have stayed behind.
    for thread, opened in _opened.items():
        is_unused = thread in _idle or (_has_gate and thread in _considerate)
        for each in opened:
            if each.connection is None:
                continue
            _inherited.append(each)
            if is_unused and each.vendor == "sqlite" and not each.connection.in_transaction:
                _to_close.append(each.connection)
    _opened.clear()
    _idle.clear()
    _considerate.clear()


connection_created.connect(_note, dispatch_uid="bgtasks")
os.register_at_fork(before=_wait, after_in_parent=_go_on, after_in_child=_leave_behind)
