"""The bound on running tasks, and who waits here for a free slot."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ..process.record import Record


class Slots:
    """
    So many tasks may run at once.

    One rule: no slot is free while a record waits that may start. Whoever adds one of the two looks for the other
    afterwards, so it holds from any number of threads without a lock; a free slot is an item of a list, and popping
    and appending are atomic.
    """

    def __init__(self, count: int, may_start: Callable[[Record], bool], start: Callable[[Record], None]) -> None:
        """
        Args:
            may_start: tells of a record that waits whether this process may still start it.
            start: starts a record, in the slot that was taken for it.
        """
        self.count = count
        self.is_held = False  # While it is, nobody who waits gets a slot.
        self._free: list[None] = [None] * count
        self._waiting: deque[Record] = deque()
        self._may_start = may_start
        self._start = start

    def __len__(self) -> int:
        """Return how many are free."""
        return len(self._free)

    @property
    def waiting(self) -> list[Record]:
        return list(self._waiting)

    def take(self) -> bool:
        try:
            self._free.pop()
        except IndexError:
            return False
        return True

    def give_back(self, count: int = 1) -> None:
        self._free.extend([None] * count)
        if self._waiting:
            self.match()

    def queue(self, record: Record) -> None:
        """Have a record start as soon as a slot is free; its token decides, should somebody else want it first."""
        self._waiting.append(record)
        self.match()

    def match(self) -> None:
        """Start who waits in what is free."""
        while self._waiting and not self.is_held and self.take():
            record = self._next()
            if record is None:
                self._free.append(None)  # And look again: one may have come meanwhile.
            else:
                self._start(record)

    def resize(self, count: int) -> None:
        """Have another number of slots. Call before anything runs."""
        self.count = count
        self._free[:] = [None] * count

    def _next(self) -> Record | None:
        try:
            while True:
                record = self._waiting.popleft()
                if self._may_start(record) and record.take():
                    return record
        except IndexError:  # Nobody is left.
            return None
