"""
Limits: how many tasks of a function or a queue run at once in this process, and which of them are paused.

A task with a limit starts at once only if there is room and no task of its kind waits in the table. Otherwise it waits
there as READY, and each process claims as many of these tasks as it has room for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..conf import Settings
from ..definition import Task
from ..definition.rate import Rate
from ..exceptions import Overloaded
from ..journal.statements import Wanted
from ..process.record import PassedGate


class Gate:
    """
    Lets only so many tasks run at once.

    A free place is an item of a list. Popping and appending are atomic, so a gate can be used from any thread.
    """

    def __init__(self, count: int) -> None:
        self._free: list[None] = [None] * count
        self.is_wanted = False  # Whether tasks may wait in the table for this gate.

    def take(self) -> bool:
        try:
            self._free.pop()
        except IndexError:
            return False
        return True

    def give_back(self) -> None:
        self._free.append(None)


Gates = tuple[Gate, ...]


@dataclass(frozen=True)
class Group:
    """Rows that one claim may take together, with the limits that they share."""

    wanted: Wanted
    gates: Gates
    rate: Rate | None

    @property
    def is_limited(self) -> bool:
        return bool(self.gates) or self.rate is not None


class Limits:
    """The limits of one process."""

    def __init__(self, settings: Settings, functions: Mapping[str, Task[..., object]]) -> None:
        self._functions = functions
        self._by_function: dict[str, Gate] = {}
        self._by_queue = {
            name: Gate(bounds["MAX_RUNNING"]) for name, bounds in settings.queues.items() if "MAX_RUNNING" in bounds
        }
        self._isolated = Gate(settings.max_isolated)
        self.has_queues = bool(settings.queues)
        self.max_waiting = {
            name: bounds["MAX_WAITING"] for name, bounds in settings.queues.items() if "MAX_WAITING" in bounds
        }
        self.retry_after = settings.heartbeat  # Seconds.
        self.waiting: dict[str, int] = {}  # By queue: the rows that waited at the last count, and those fired since.
        self.paused_functions: frozenset[str] = frozenset()
        self.paused_queues: frozenset[str] = frozenset()
        self.has_pauses = False

    def is_limited(self, task: Task[..., object]) -> bool:
        """Return whether a task has limits beside the number of slots. Then it never waits in this process."""
        return task.is_limited or (self.has_queues and bool(self.gates_of(task)))

    def gates_of(self, task: Task[..., object]) -> Gates:
        """Return the gates that each attempt at a task passes."""
        gates = list(self._own_gates(task))
        if (gate := self._by_queue.get(task.options.queue)) is not None:
            gates.append(gate)
        return tuple(gates)

    def _own_gates(self, task: Task[..., object]) -> Iterator[Gate]:
        options = task.options
        if options.max_running is not None:
            gate = self._by_function.get(task.name)
            if gate is None:
                gate = self._by_function.setdefault(task.name, Gate(options.max_running))
            yield gate
        if options.isolated:
            yield self._isolated

    def enter(self, task: Task[..., object], gates: Gates) -> bool:
        """
        Pass all gates, for a newly fired task; return False if it has to wait in the table.

        It has to if tasks wait there already, even if there is room. It has to in any case if it has a rate, since only
        claims start such tasks.
        """
        if task.rate is None and not any(gate.is_wanted for gate in gates) and self.take(gates):
            return True
        self.want(gates)
        return False

    def want(self, gates: Gates) -> None:
        """Note that a task waits for these gates in the table."""
        for gate in gates:
            gate.is_wanted = True

    def take(self, gates: Gates) -> bool:
        """Pass all gates, or none; return whether they were passed."""
        for index, gate in enumerate(gates):
            if not gate.take():
                for passed in gates[:index]:
                    passed.give_back()
                return False
        return True

    def leave(self, gates: Sequence[PassedGate]) -> bool:
        """Give the places of a task back; return whether other tasks may wait for them in the table."""
        is_wanted = False
        for gate in gates:
            gate.give_back()
            is_wanted = is_wanted or gate.is_wanted
        return is_wanted

    def check_waiting(self, queue: str) -> None:
        """
        Check that a queue takes one more task.

        Raises:
            Overloaded: MAX_WAITING of the queue is reached, according to the last count.
        """
        most = self.max_waiting.get(queue)
        if most is not None and (waiting := self.waiting.get(queue, 0)) >= most:
            raise Overloaded(
                f"{waiting} tasks wait in queue {queue!r} (MAX_WAITING: {most}): nothing was stored, nothing started.",
                retry_after=self.retry_after,
            )

    def count_waiting(self, queue: str) -> None:
        """Count a task that is about to wait in the table."""
        if queue in self.max_waiting:
            self.waiting[queue] = self.waiting.get(queue, 0) + 1

    # Pauses.

    def pause(self, functions: frozenset[str], queues: frozenset[str]) -> bool:
        """Pause these functions and queues, and resume all others; return whether any one is resumed."""
        is_any_resumed = bool(self.paused_functions - functions or self.paused_queues - queues)
        self.paused_functions, self.paused_queues = functions, queues
        self.has_pauses = bool(functions or queues)
        return is_any_resumed

    def is_paused(self, task: Task[..., object] | None) -> bool:
        if task is None or not self.has_pauses:
            return False
        return task.name in self.paused_functions or task.options.queue in self.paused_queues

    # Claims.

    def groups(self, queues: tuple[str, ...]) -> list[Group]:
        """
        Return the groups of rows that may be claimed now: one for the rows without limits, and one for each limited
        function or queue.

        Args:
            queues: the queues whose rows may be claimed. Empty: all queues.
        """
        names: dict[str, list[str]] = {}  # The names of each limited function, and under "" those of all others.
        for name, task in self._functions.items():
            if task.name not in self.paused_functions:
                names.setdefault(task.name if task.is_limited else "", []).append(name)
        plain = tuple(names.pop("", ()))
        groups = []
        for part, not_part, queue_gates in self._parts(queues):
            if plain:
                groups.append(Group(Wanted(plain, part, not_part), queue_gates, None))
            for name, all_names in names.items():
                task = self._functions[name]
                gates = (*self._own_gates(task), *queue_gates)
                groups.append(Group(Wanted(tuple(all_names), part, not_part), gates, task.rate))
        return groups

    def _parts(self, queues: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], tuple[str, ...], Gates]]:
        """Yield parts of the table: the queues of a part (empty: all), those that it leaves out, and its gates."""
        bounded = [name for name in self._by_queue if not queues or name in queues]
        for name in bounded:
            if name not in self.paused_queues:
                yield (name,), (), (self._by_queue[name],)
        others = tuple(name for name in queues if name not in self.paused_queues and name not in bounded)
        if others or not queues:
            yield others, () if others else (*bounded, *sorted(self.paused_queues - set(bounded))), ()
