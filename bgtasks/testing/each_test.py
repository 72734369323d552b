"""One test after the other: nothing of one is left to the next."""

from __future__ import annotations

import contextlib
import functools
from typing import Any

from asgiref.sync import SyncToAsync
from django.db import connections
from django.test import SimpleTestCase

from ..api import get_config
from .fired import fired

LONGEST_CLOSE = 5.0  # Seconds for a thread that may be stuck in a test's code.


def _close_shared_connections() -> None:
    """
    Close the connections of asgiref's one thread for all async code that has none of its own.

    Nobody else does, and on PostgreSQL they keep the test database from being dropped.
    """
    executor = SyncToAsync.single_thread_executor
    if getattr(executor, "_threads", True):  # Asking an executor that nobody has used would start its thread.
        with contextlib.suppress(TimeoutError):  # Some test's code hangs in it.
            executor.submit(_close_unless_in_transaction).result(LONGEST_CLOSE)


def _close_unless_in_transaction() -> None:
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:  # A fixture of the project's may hold one open for several tests.
            connection.close()


def begin_test() -> None:
    """Leave nothing of one test to the next: what was fired, open connections, a runtime that was shut down."""
    fired.clear()
    _close_shared_connections()
    get_config().begin_anew()


def begin_each_test_anew() -> None:
    """
    Have `begin_test` called around each test of Django's classes; pytest has a fixture for it.

    A new `mail.outbox` does not tell of a new test: tests set one to empty it, as Django's documentation says.
    """
    call = SimpleTestCase.__call__
    if hasattr(call, "begins_anew"):
        return

    @functools.wraps(call)
    def call_anew(self: SimpleTestCase, result: Any = None) -> None:
        begin_test()
        try:
            call(self, result)
        finally:
            begin_test()

    call_anew.begins_anew = True  # type: ignore[attr-defined]
    SimpleTestCase.__call__ = call_anew  # type: ignore[method-assign]
