"""
The ledger: compares the fired tasks, their rows, and the arrivals. Pure: no database, no network.

It relies on the promises of bgtasks only, not on its implementation.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Kind = Literal["mail", "webhook", "report", "other"]  # "other" leaves no trace outside its row.

LIVE = frozenset({"READY", "RUNNING"})
CUT_SHORT = frozenset({"CANCELLED", "INTERRUPTED"})
FINAL = frozenset({"SUCCESSFUL", "FAILED", "LOST"}) | CUT_SHORT


@dataclass(frozen=True, slots=True)
class Fired:
    """A task whose id the service has answered, and the outcome that the sender expects."""

    task_id: str
    kind: Kind
    key: str  # The expected content: the address of the mail, the digest of the JSON, the number of the report.
    expected: str  # Its final status, unless the drain cuts it short.


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table of background tasks."""

    task_id: str
    name: str
    status: str
    history: tuple[str, ...]  # The statuses it went through, oldest first.


@dataclass(frozen=True, slots=True)
class Arrival:
    """A line in the log of a receiver. A mail refused by its address has no task id, since it was not read."""

    kind: Kind
    task_id: str
    key: str
    is_refused: bool = False


@dataclass(frozen=True, slots=True)
class Stop:
    """How the server stopped."""

    seconds: float
    allowed_seconds: float
    process_states: tuple[str, ...]
    drains: tuple[Mapping[str, int], ...]  # The counts in each Drain row: running_at_start, finished_count, …


@dataclass(frozen=True, slots=True)
class Check:
    claim: str
    compared: int
    problems: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        return not self.problems


@dataclass(frozen=True)
class Ledger:
    """The evidence after the server has stopped; `checks` says whether it balances."""

    fired: Sequence[Fired]
    rows: Sequence[Row]
    arrivals: Sequence[Arrival]
    stop: Stop
    answers: Mapping[str, int]  # The number of requests by answer: {"POST /signup 202": 240}.
    surprises: Sequence[str] = ()  # Unexpected answers.
    unanswered_count: int = 0  # Requests after the request to stop that found no server.

    @property
    def balances(self) -> bool:
        return all(check.holds for check in self.checks)

    @cached_property
    def checks(self) -> list[Check]:
        return [
            Check("every request was answered as expected", sum(self.answers.values()), tuple(self.surprises)),
            self._every_fired_task_has_one_row(),
            self._every_row_was_fired(),
            self._every_row_is_final(),
            self._every_history_ends_with_its_status(),
            self._tasks_ended_as_expected(),
            self._arrived("every SUCCESSFUL task arrived once", {"SUCCESSFUL"}, least=1, most=1),
            self._arrived("no FAILED task arrived", {"FAILED"}, least=0, most=0),
            self._arrived("every task that was cut short arrived at most once", CUT_SHORT, least=0, most=1),
            self._every_arrival_was_fired(),
            self._every_arrival_has_the_sent_content(),
            self._process_stopped(),
            self._drain_is_recorded(),
        ]

    @cached_property
    def status_by_id(self) -> dict[str, str]:
        return {row.task_id: row.status for row in self.rows}

    @cached_property
    def counts(self) -> dict[str, Counter[str]]:
        """The number of tasks by kind and status: {"mail": {"SUCCESSFUL": 200, …}, …}."""
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for fired in self.fired:
            counts[fired.kind][self.status_by_id.get(fired.task_id, "no row")] += 1
        return dict(counts)

    @cached_property
    def _fired_by_id(self) -> dict[str, Fired]:
        return {fired.task_id: fired for fired in self.fired}

    @cached_property
    def _arrivals_by_id(self) -> dict[str, list[Arrival]]:
        id_by_address = {fired.key: fired.task_id for fired in self.fired if fired.kind == "mail"}
        id_by_report = {fired.key: fired.task_id for fired in self.fired if fired.kind == "report"}
        by_id: dict[str, list[Arrival]] = defaultdict(list)
        for arrival in self.arrivals:
            known_by = id_by_report if arrival.kind == "report" else id_by_address
            by_id[arrival.task_id or known_by.get(arrival.key, f"unknown {arrival.key}")].append(arrival)
        return dict(by_id)

    def accepted(self, task_id: str) -> list[Arrival]:
        return [arrival for arrival in self._arrivals_by_id.get(task_id, []) if not arrival.is_refused]

    def _every_fired_task_has_one_row(self) -> Check:
        row_count = Counter(row.task_id for row in self.rows)
        fired_count = Counter(fired.task_id for fired in self.fired)
        problems = [f"{task_id} has {row_count[task_id]} rows" for task_id in fired_count if row_count[task_id] != 1]
        problems += [f"{task_id} was answered {count} times" for task_id, count in fired_count.items() if count != 1]
        return Check("every fired task has exactly one row", len(self.fired), tuple(problems))

    def _every_row_was_fired(self) -> Check:
        problems = [f"{row.task_id} ({row.name})" for row in self.rows if row.task_id not in self._fired_by_id]
        return Check("every row was fired by a request", len(self.rows), tuple(problems))

    def _every_row_is_final(self) -> Check:
        problems = [f"{row.task_id} ({row.name}) is {row.status}" for row in self.rows if row.status not in FINAL]
        return Check("every row is in a final state", len(self.rows), tuple(problems))

    def _every_history_ends_with_its_status(self) -> Check:
        problems = [
            f"{row.task_id} is {row.status}, its history {' → '.join(row.history) or 'empty'}"
            for row in self.rows
            if row.history[-1:] != (row.status,) or sum(status in FINAL for status in row.history) > 1
        ]
        return Check("every history ends once, with the row's status", len(self.rows), tuple(problems))

    def _tasks_ended_as_expected(self) -> Check:
        problems = [
            f"{fired.task_id} ({fired.kind} {fired.key}) is {status}, expected {fired.expected}"
            for fired in self.fired
            if (status := self.status_by_id.get(fired.task_id, "missing")) != fired.expected and status not in CUT_SHORT
        ]
        return Check("every task ended as expected, or was cut short", len(self.fired), tuple(problems))

    def _arrived(self, claim: str, statuses: Iterable[str], *, least: int, most: int) -> Check:
        compared = [
            fired
            for fired in self.fired
            if fired.kind != "other" and self.status_by_id.get(fired.task_id) in frozenset(statuses)
        ]
        problems = [
            f"{fired.task_id} ({fired.kind} {fired.key}) arrived {count} times"
            for fired in compared
            if not least <= (count := len(self.accepted(fired.task_id))) <= most
        ]
        return Check(claim, len(compared), tuple(problems))

    def _every_arrival_was_fired(self) -> Check:
        problems = [
            f"{len(arrivals)} × {arrivals[0].kind} {task_id}"
            for task_id, arrivals in self._arrivals_by_id.items()
            if task_id not in self._fired_by_id
        ]
        return Check("every arrival was fired", len(self.arrivals), tuple(problems))

    def _every_arrival_has_the_sent_content(self) -> Check:
        problems = [
            f"{arrival.kind} {task_id} arrived as {arrival.key}, was sent as {fired.key}"
            for task_id, arrivals in self._arrivals_by_id.items()
            for arrival in arrivals
            if (fired := self._fired_by_id.get(task_id)) and (arrival.kind, arrival.key) != (fired.kind, fired.key)
        ]
        return Check("every arrival has the content that was sent", len(self.arrivals), tuple(problems))

    def _process_stopped(self) -> Check:
        states, stop = self.stop.process_states, self.stop
        problems = [] if states == ("STOPPED",) else [f"process rows: {', '.join(states) or 'none'}"]
        if stop.seconds > stop.allowed_seconds:
            problems.append(f"the server took {stop.seconds:.1f} s to stop, allowed are {stop.allowed_seconds:.1f} s")
        return Check("the process stopped in time and says so", len(states), tuple(problems))

    def _drain_is_recorded(self) -> Check:
        claim = "one drain is recorded, and its numbers are those of the rows"
        if len(self.stop.drains) != 1:
            return Check(claim, len(self.stop.drains), (f"{len(self.stop.drains)} rows",))
        drain = self.stop.drains[0]
        cut_short = sum(row.status in CUT_SHORT for row in self.rows)
        problems = (
            [] if drain["running_at_start"] else ["nothing was running when it began: this run proves too little"]
        )
        if drain["cancelled_count"] + drain["left_count"] != cut_short:
            problems.append(
                f"it counts {drain['cancelled_count']} cancelled and {drain['left_count']} left, "
                f"the rows {cut_short} cut short"
            )
        return Check(claim, 1, tuple(problems))
