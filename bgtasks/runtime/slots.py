"""The slots: the bound on running tasks, and the records that wait in this process for a free slot."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ..process.record import Record
from ..process.state import ProcessState


class Slots:
    """
    A fixed number of slots, one for each running task.

    No slot stays free while a record waits that may start. A thread that adds a slot or a record looks for the other
    one afterwards, so this holds without a lock, for any number of threads. A free slot is an item of a list: popping
    and appending are atomic.
    """

    def __init__(
        self, count: int, state: ProcessState, may_start: Callable[[Record], bool], start: Callable[[Record], None]
    ) -> None:
        """
        Args:
            may_start: returns whether this process may still start a waiting record.
            start: starts a record in the slot that was taken for it.
        """
        self.count = count
        self._state = state
        self._free: list[None] = [None] * count
        self._waiting: deque[Record] = deque()
        self._may_start = may_start
        self._start = start

    def __len__(self) -> int:
        """Return the number of free slots."""
        return len(self._free)

    @property
    def waiting(self) -> list[Record]:
        return list(self._waiting)

    def take(self) -> bool:
        """Take a free slot; return False if there is none."""
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
        """Let a record wait for a slot. Until it starts, another thread may take its token."""
        self._waiting.append(record)
        self.match()

    def match(self) -> None:
        """Start the waiting records in the free slots, unless the process is held."""
        while self._waiting and not self._state.is_held and self.take():
            record = self._next()
            if record is None:
                self._free.append(None)  # A record may have come meanwhile: look again.
            else:
                self._start(record)

    def resize(self, count: int) -> None:
        """Change the number of slots. Call before tasks are started."""
        self.count = count
        self._free[:] = [None] * count

    def _next(self) -> Record | None:
        try:
            while True:
                record = self._waiting.popleft()
                if self._may_start(record) and record.take():
                    return record
        except IndexError:  # No record is left.
            return None
