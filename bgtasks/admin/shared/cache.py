"""A cache for some seconds, in this process: a live page loads itself anew each second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

_all: list[TimedCache[object]] = []


class TimedCache(Generic[T]):
    """Caches the result of `read` for each database. While one thread reads, other threads wait for it."""

    def __init__(self, seconds: float, read: Callable[[str], T]) -> None:
        self._seconds = seconds
        self._read = read
        self._lock = threading.Lock()
        self._found: dict[str, tuple[float, T]] = {}  # By alias: time on the monotonic clock, and value.
        _all.append(self)  # type: ignore[arg-type]

    def get(self, using: str) -> T:
        with self._lock:
            found = self._find(using)
            if found is None:
                found = self._found[using] = (time.monotonic(), self._read(using))
        return found[1]

    def get_known(self, using: str) -> T | None:
        """Return the cached value if it is still fresh, without reading it."""
        found = self._find(using)
        return found[1] if found is not None else None

    def _find(self, using: str) -> tuple[float, T] | None:
        found = self._found.get(using)
        return found if found is not None and time.monotonic() - found[0] < self._seconds else None

    def forget(self) -> None:
        self._found.clear()


def forget_all() -> None:
    """Empty all caches, for tests: each of them has another database."""
    for each in _all:
        each.forget()
