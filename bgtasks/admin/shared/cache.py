"""Keeps what is costly to read for a moment, in this process: a page that is pushed to asks for itself each second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

_all: list[Kept[object]] = []


class Kept(Generic[T]):
    """What `read` returns for a database, kept for some seconds; while one thread reads, others wait for it."""

    def __init__(self, seconds: float, read: Callable[[str], T]) -> None:
        self._seconds = seconds
        self._read = read
        self._lock = threading.Lock()
        self._found: dict[str, tuple[float, T]] = {}  # By alias: when it was read, on the monotonic clock, and what.
        _all.append(self)  # type: ignore[arg-type]

    def get(self, using: str) -> T:
        with self._lock:
            found = self._find(using)
            if found is None:
                found = self._found[using] = (time.monotonic(), self._read(using))
        return found[1]

    def get_known(self, using: str) -> T | None:
        """Return it if it is kept, without reading it."""
        found = self._find(using)
        return found[1] if found is not None else None

    def _find(self, using: str) -> tuple[float, T] | None:
        found = self._found.get(using)
        return found if found is not None and time.monotonic() - found[0] < self._seconds else None

    def forget(self) -> None:
        self._found.clear()


def forget_all() -> None:
    """For tests, which each have another database."""
    for each in _all:
        each.forget()
