"""
The rule of tests/unit: no database, no server, no process, no thread of the runtime.

The conftest applies it to each test: it rejects a test that `asks_for_database`, and runs the others with the rule
`enforced`.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest

ADVICE = "tests/unit does without. Move the test to tests/integration, or to tests/acceptance if it needs a server."

# By audit event of the interpreter: https://docs.python.org/3/library/audit_events.html.
_REFUSED = {
    "os.exec": "a process",
    "os.fork": "a process",
    "os.forkpty": "a process",
    "os.posix_spawn": "a process",
    "os.spawn": "a process",
    "os.system": "a process",
    "subprocess.Popen": "a process",
    "socket.bind": "a server",
    "socket.connect": "a server",
    "sqlite3.connect": "a database",
}
# Each fixture that needs a database depends on one of these, of pytest-django or of tests/conftest.py.
_DATABASE_FIXTURES = {"django_db_setup", "migrated_database"}

_faults: list[str] | None = None  # Of the current test; None between tests.


class Impure(Exception):
    """A unit test has used something that its folder excludes."""


def asks_for_database(item: pytest.Item) -> bool:
    """Report whether a test asks for a database: by a fixture, a mark or a class of Django."""
    return (
        not _DATABASE_FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))
        or item.get_closest_marker("django_db") is not None
        or bool(getattr(getattr(item, "cls", None), "databases", None))
    )


@contextmanager
def enforced() -> Iterator[None]:
    """Raise Impure at each excluded use; fail the test even if its code handles the exception as an outage."""
    global _faults
    before, _faults = _faults, []
    try:
        with patch.object(threading.Thread, "start", _start_thread):  # It has no audit event before Python 3.13.
            yield
    finally:
        found, _faults = _faults, before
    if found:
        pytest.fail(found[0])


def _start_thread(thread: threading.Thread) -> None:
    if thread.name.startswith("bgtasks-"):
        _refuse("a thread of the runtime", thread.name)
    _start(thread)


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if _faults is not None and event in _REFUSED:
        _refuse(_REFUSED[event], event)


def _refuse(used: str, detail: str) -> None:
    fault = f"The test used {used} ({detail}). {ADVICE}"
    if _faults is not None:
        _faults.append(fault)
    raise Impure(fault)


_start = threading.Thread.start
sys.addaudithook(_audit)  # Once per process, since no hook can be removed.
