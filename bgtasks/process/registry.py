"""Task functions by name, and the live tasks of this process by id: the strong references that keep them alive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakValueDictionary

from ..definition import Task, declared
from .record import Record


class Registry:
    """Held by the AppConfig. Dictionaries only: each operation on them is atomic, from any thread."""

    def __init__(self) -> None:
        self.functions: Mapping[str, Task[Any, Any]] = declared
        self.live: dict[int, Record] = {}
        # Fired here, and now in the table for any process: kept only as long as somebody has the handle.
        self.handed_over: WeakValueDictionary[int, Record] = WeakValueDictionary()
        self.awaited: dict[int, Record] = {}  # Those for whose end somebody waited when they were READY.

    def holds(self, record: Record) -> bool:
        """
        Tell whether this very record is live here.

        Its task may be live here by another record: taken from this process, and claimed by it again.
        """
        return self.live.get(record.number) is record
