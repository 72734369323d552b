"""The reset around each test, so that one test leaves nothing to the next."""

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
    Close the connections of the one thread that asgiref has for the ORM calls of all async tests.

    No other code closes them, and on PostgreSQL they keep the test database from being dropped.
    """
    executor = SyncToAsync.single_thread_executor
    if getattr(executor, "_threads", True):  # Submitting to an unused executor would start its thread.
        with contextlib.suppress(TimeoutError):  # The code of a test hangs in it.
            executor.submit(_close_unless_in_transaction).result(LONGEST_CLOSE)


def _close_unless_in_transaction() -> None:
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:  # A fixture of the project may have one open for several tests.
            connection.close()


def begin_test() -> None:
    """Forget the fired tasks and a runtime that was shut down, and close the connections that a test has left open."""
    fired.clear()
    _close_shared_connections()
    get_config().begin_anew()


def begin_each_test_anew() -> None:
    """
    Call `begin_test` around each test of Django's test classes from now on. For pytest there is a fixture.

    A new `mail.outbox` would be no sign of a new test: tests set one to empty it, as Django's documentation says.
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
