"""The ends of tasks in this process: counted for the drain, which each of them wakes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable


class Ends:
    """
    Counts from any thread; the drain reads.

    Attributes:
        finished_count: the attempts that ended by themselves, or before a drain.
        interrupted: the names of attempts that were cut short during a drain, by whichever code.
        is_cutting_short: whether the drain cuts the rest short: tasks that draining tasks fire are not started any
            more.
    """

    def __init__(self) -> None:
        self.finished_count = 0
        self.interrupted: Counter[str] = Counter()
        self.is_cutting_short = False
        self._wake: Callable[[], None] | None = None

    def watch(self, wake: Callable[[], None]) -> None:
        """Begin a drain: call `wake`, from any thread, when a task has ended here or left this process."""
        self.interrupted.clear()
        self.is_cutting_short = False
        self._wake = wake

    def begin_cutting_short(self) -> None:
        self.is_cutting_short = True

    def count(self, name: str, is_interrupted: bool) -> None:
        """Count the end of an attempt."""
        if is_interrupted and self._wake is not None:
            self.interrupted[name] += 1
        else:
            self.finished_count += 1

    def announce(self) -> None:
        """Wake the drain, if there is one: the task that has ended or left may have been the last."""
        if self._wake is not None:
            self._wake()
