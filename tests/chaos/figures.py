"""The figures of a run for the documentation, computed from the evidence."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bgtasks.status import Status

from .evidence import Evidence, Fate, Process

FATAL = ("freeze",)  # Acts after which other processes rightly declare a live server dead.


@dataclass(frozen=True)
class Rescue:
    """The verdict of a task that ran in a killed process, and its delay after the kill."""

    seconds: float
    is_in_peace: bool  # Whether the database had no outage meanwhile.


@dataclass
class Figures:
    """Sums over all rounds."""

    kills: int = 0
    rounds: int = 0
    tasks: int = 0  # Rows.
    acknowledged: int = 0  # By `afire` or a commit.
    forgotten: int = 0  # Accepted by `fire` in a process that was killed before it wrote them. Allowed.
    forgotten_in_peace: int = 0  # Those of them that were not delayed by an outage.
    forgotten_oldest: float | None = None  # Seconds from the request to the kill, for these.
    late: int = 0  # Results that arrived after a verdict and were noted.
    begun_anew: int = 0  # Processes that continued under another id.
    hung: int = 0  # Servers that ran out of memory, did not answer, and were therefore killed.
    false_deaths: int = 0
    rescues: dict[tuple[str, int], Rescue] = field(default_factory=dict)
    endings: Counter[str] = field(default_factory=Counter)  # How servers ended.
    acts: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        values = {key: dict(value) if isinstance(value, Counter) else value for key, value in vars(self).items()}
        waits = [rescue.seconds for rescue in values.pop("rescues").values()]
        in_peace = [rescue.seconds for rescue in self.rescues.values() if rescue.is_in_peace]
        values |= {
            "rescued": len(waits),
            "rescue_median": round(statistics.median(in_peace), 2) if in_peace else None,
            "rescue_worst": round(max(in_peace), 2) if in_peace else None,
            "rescue_worst_in_an_outage": round(max(waits), 2) if waits else None,
        }
        values["seconds"] = round(self.seconds, 1)
        values["missing"] = self.problems["missing"]
        values["started_twice"] = self.problems["started twice"]
        return values


def find_false_deaths(evidence: Evidence, deadly: frozenset[str]) -> list[Process]:
    """
    Return processes that were declared dead without an act or a task that explains it.

    Args:
        deadly: kinds of tasks that silence or end their process.
    """
    harmed = {(mark.pid, mark.at) for mark in evidence.marks if mark.kind in deadly}
    found = []
    for process in evidence.processes:
        if process.state != "DEAD" or process.stopped_at is None:
            continue
        fate = evidence.fates.get(process.pid)
        moments = [at for pid, at in harmed if pid == process.pid]
        if fate is not None:
            moments += [at for at, what in fate.acts if what in FATAL]
            moments += [fate.ended_at] if fate.ended_at is not None else []
        if not any(at <= process.stopped_at for at in moments):
            found.append(process)
    return found


def find_rescues(evidence: Evidence) -> dict[tuple[str, int], Rescue]:
    """Return the rescues, by task and the number of the entry in its history."""
    died: dict[str, float] = {}
    for process in evidence.processes:
        fate = evidence.fates.get(process.pid)
        if fate is not None and fate.was_killed and fate.ended_at is not None:
            died[process.id] = fate.ended_at
    found = {}
    for row in evidence.rows.values():
        for number, (entry, following) in enumerate(zip(row.changes, row.changes[1:], strict=False)):
            if entry["status"] != Status.RUNNING or following["by"] == entry["by"] or entry["by"] not in died:
                continue
            began, ended = died[entry["by"]], datetime.fromisoformat(following["at"]).timestamp()
            if ended > began:
                found[row.id, number] = Rescue(ended - began, not is_in_outage(evidence, began, ended))
    return found


def is_in_outage(evidence: Evidence, began: float, ended: float) -> bool:
    # With one more second, since the journals try again after a pause.
    return any(start <= ended and began <= end + 1 for start, end in evidence.outages)


def find_forgotten_ages(evidence: Evidence) -> list[float]:
    """
    Return the ages in seconds of the tasks that `fire` accepted and that were forgotten with their process.

    Tasks whose write was delayed by an outage are left out.
    """
    ages = []
    for fired in evidence.fired:
        fate = evidence.fates.get(fired.pid)
        if fired.outcome != "acknowledged" or fired.id in evidence.rows or fate is None or fate.ended_at is None:
            continue
        if not is_in_outage(evidence, fired.at, fate.ended_at):
            ages.append(fate.ended_at - fired.at)
    return ages


def count_forgotten(evidence: Evidence) -> int:
    return sum(fired.outcome == "acknowledged" and fired.id not in evidence.rows for fired in evidence.fired)


def count_late(evidence: Evidence) -> int:
    return sum("came too late" in entry["why"] for row in evidence.rows.values() for entry in row.transitions)


def name_ending(fate: Fate) -> str:
    return {0: "stopped", -15: "stopped", -9: "SIGKILL", 77: "os._exit"}.get(fate.code or 0, f"code {fate.code}")
