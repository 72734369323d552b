"""
The database connections of the package's own threads: how many are open, and which a forked child closes.

A forked child inherits SQLite's list of the locks of its parent. While it has a connection of the parent open, it takes
these locks for its own. After a fork within a transaction of the parent, the file stays locked for the child. See 2.7
of https://www.sqlite.org/howtocorrupt.html.
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

LONGEST_WAIT = 5.0  # Seconds for which a fork waits for `no_forks`: a database may never answer.

# By thread: the connections that it has opened, some of them closed by now. Operations on these are atomic.
_opened: dict[int, list[BaseDatabaseWrapper]] = {}
_idle: set[int] = set()  # The threads within `unused_connections`.
_considerate: set[int] = set()  # The threads that use their connections within `no_forks` only.
# Those of threads that a fork has left behind. Kept here, since the garbage collector would close them.
_inherited: list[BaseDatabaseWrapper] = []
_to_close: list[Any] = []  # The driver's connections of those that can be closed.

_gate = threading.RLock()  # Reentrant: a receiver of a signal may fork on the journal's own thread.
_has_gate = False  # Whether the last fork got the gate in time.


@contextmanager
def own_connections(is_considerate: bool = False) -> Iterator[None]:
    """
    Count the connections that the current thread opens within the block, and close them at its end.

    Args:
        is_considerate: whether the thread uses them within `no_forks` only.
    """
    thread = threading.get_ident()
    _opened[thread] = []
    if is_considerate:
        _considerate.add(thread)
    try:
        while _to_close:  # Here and not at the fork: if a thread was within SQLite then, this waits for ever.
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
    """Promise that the current thread uses none of its connections within the block."""
    thread = threading.get_ident()
    _idle.add(thread)
    try:
        yield
    finally:
        _idle.discard(thread)


@contextmanager
def no_forks() -> Iterator[None]:
    """Make forks by other threads wait for the end of the block."""
    with _gate:
        yield


def count_own_connections() -> int:
    """Return the number of open connections, without a query. From any thread."""
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
    Note, in the child, which inherited connections can be closed.

    Closing waits for ever within a statement, and changes the parent's data within a transaction. Other databases than
    SQLite would take it for the end of the parent's connection.
    """
    global _gate
    _gate = threading.RLock()  # The thread that holds the old one may not exist in the child.
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
