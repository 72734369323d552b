"""The ends of tasks in this process, counted for the drain. Each end wakes the drain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable


class Ends:
    """
    Counts the ends of tasks, from any thread.

    Attributes:
        finished_count: the number of attempts that ended, except those that were cut short during a drain.
        interrupted: the names of the attempts that were cut short during a drain, by any code.
        is_cutting_short: whether the drain is cutting tasks short. From then on tasks that running tasks fire are not
            started any more.
    """

    def __init__(self) -> None:
        self.finished_count = 0
        self.interrupted: Counter[str] = Counter()
        self.is_cutting_short = False
        self._wake: Callable[[], None] | None = None

    def watch(self, wake: Callable[[], None]) -> None:
        """Count for a new drain, and call `wake`, from any thread, when a task has ended or has left this process."""
        self.interrupted.clear()
        self.is_cutting_short = False
        self._wake = wake

    def begin_cutting_short(self) -> None:
        """Note that the drain waits for running tasks no longer."""
        self.is_cutting_short = True

    def count(self, name: str, is_interrupted: bool) -> None:
        """Count the end of an attempt."""
        if is_interrupted and self._wake is not None:
            self.interrupted[name] += 1
        else:
            self.finished_count += 1

    def announce(self) -> None:
        """Wake the drain, if there is one: a task has ended or has left this process, perhaps the last one."""
        if self._wake is not None:
            self._wake()
