"""Task functions by name, and the live tasks of this process by id: the strong references that keep them alive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakValueDictionary

from ..definition import Task, declared
from ..status import Status
from .record import Record


class Registry:
    """The AppConfig has one. Each operation on its dictionaries is atomic, from any thread."""

    def __init__(self) -> None:
        self.functions: Mapping[str, Task[Any, Any]] = declared
        self.live: dict[int, Record] = {}
        # Fired here, and READY in the table for any process: a record stays only as long as its handle.
        self.handed_over: WeakValueDictionary[int, Record] = WeakValueDictionary()
        self.awaited: dict[int, Record] = {}  # Awaited here and READY, or live in another process.

    def is_live_here(self, record: Record) -> bool:
        """
        Return whether this very record is live here.

        Its task may be live here under another record: given back by a verdict, and claimed by this process again.
        """
        return self.live.get(record.number) is record

    def find(self, number: int) -> Record | None:
        """Return the record of a task that this process holds, or has handed over and whose handle still exists."""
        return self.live.get(number) or self.handed_over.get(number)

    def count_running(self) -> int:
        return sum(record.status is Status.RUNNING for record in list(self.live.values()))
