"""
The verifier: compares what was promised with what the evidence shows, and names each task with which it does not agree.

It knows nothing of the harness's own tasks: what may fail, and what is a coroutine object, it is told. Each check is a
function of the evidence.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from bgtasks.status import Status, may_follow

from .evidence import Evidence, Row
from .marks import END, START


@dataclass(frozen=True)
class Problem:
    """A promise that was broken with a task."""

    promise: str
    task: str
    detail: str

    def __str__(self) -> str:
        return f"{self.promise}: {self.task}: {self.detail}"


@dataclass(frozen=True)
class Expectations:
    """What the evidence cannot tell by itself."""

    objects: frozenset[str] = frozenset()  # Names of coroutine objects: nobody can run them again.
    may_fail: dict[str, str] = field(default_factory=dict)  # Error types by the short names of those that raise.
    starving: frozenset[str] = frozenset()  # Kinds of tasks that take all memory: near them anything may raise.


def find_problems(evidence: Evidence, expectations: Expectations) -> list[Problem]:
    """Return all that is wrong. The evidence is of a time when nothing is going on any more."""
    return [problem for check in CHECKS for problem in check(evidence, expectations)]


def check_none_is_missing(evidence: Evidence, expectations: Expectations) -> Iterator[Problem]:
    """What `afire` or a commit acknowledged has a row, whatever happened; what `fire` took, unless it was killed."""
    for fired in evidence.fired:
        if fired.outcome != "acknowledged" or fired.id in evidence.rows:
            continue
        fate = evidence.fates.get(fired.pid)
        is_killed = fate is not None and fate.was_killed
        if fired.mode in ("afire", "commit") or not is_killed:
            yield Problem("missing", str(fired.id), f"{fired.name} by {fired.mode}, {fired.tag}, in {fired.pid}")


def check_refused_is_nowhere(evidence: Evidence, expectations: Expectations) -> Iterator[Problem]:
    """What was refused or rolled back is neither stored nor started, then or later."""
    refused = {fired.tag: fired for fired in evidence.fired if fired.outcome == "refused"}
    for row in evidence.rows.values():
        if row.tag in refused:
            yield Problem("refused, but stored", row.id, f"{row.name}, {row.tag}")
    for mark in evidence.marks:
        if mark.tag in refused:
            yield Problem("refused, but started", mark.id, f"{mark.kind}, {mark.tag}")


def check_none_lives_for_ever(evidence: Evidence, expectations: Expectations) -> Iterator[Problem]:
    for row in evidence.rows.values():
        if not Status(row.status).is_finished:
            yield Problem("lives for ever", row.id, f"{row.name} is {row.status}, attempt {row.attempt}")


def check_starts(evidence: Evidence, expectations: Expectations) -> Iterator[Problem]:
    """Each start has its entry in the history; what is not to run again was started once."""
    starts: dict[str, Counter[int]] = defaultdict(Counter)
    for mark in evidence.marks:
        if mark.what == START:
            starts[mark.id][mark.attempt] += 1
    for id_, attempts in starts.items():
        row = evidence.rows.get(id_)
        if row is None:
            continue
        if row.on_lost == "fail" and attempts.total() > 1:
            yield Problem("started twice", id_, f"{row.name} started {attempts.total()} times: {dict(attempts)}")
        recorded = Counter(entry["attempt"] for entry in row.changes if entry["status"] == Status.RUNNING)
        if row.name in expectations.objects and row.status == Status.LOST:
            # One that waited is started without being asked for, and its process may be killed before that is written.
            recorded[1] = 1
        for attempt, count in (attempts - recorded).items():
            yield Problem("started unrecorded", id_, f"{row.name}, attempt {attempt}, {count} more than its history")
        if row.attempt > row.max_attempts:
            yield Problem("too many attempts", id_, f"{row.name}: {row.attempt} of {row.max_attempts}")


def check_what_ran_has_a_row(evidence: Evidence, expectations: Expectations) -> Iterator[Problem]:
    """`afire` and a commit record first; `fire` may be forgotten with a process that is killed at once."""
    modes = {fired.tag: fired.mode for fired in evidence.fired}
    for mark in evidence.marks:
        if mark.id in evidence.rows or mark.what != START:
            continue
        fate = evidence.fates.get(mark.pid)
        is_killed = fate is not None and fate.was_killed
        if modes.get(mark.tag) in ("afire", "commit") or not is_killed:
            yield Problem("ran without a row", mark.id, f"{mark.kind}, {mark.tag}, in {mark.pid}")


def check_success_was_real(evidence: Evidence, expectations: Expectations) -> Iterator[Problem]:
    ended = {(mark.id, mark.attempt) for mark in evidence.marks if mark.what == END}
    for row in evidence.rows.values():
        if row.status == Status.SUCCESSFUL and (row.id, row.attempt) not in ended:
            yield Problem("successful without an end", row.id, f"{row.name}, attempt {row.attempt}")


def check_verdicts(evidence: Evidence, expectations: Expectations) -> Iterator[Problem]:
    """Each task ended as it was declared, and for a reason."""
    states = {process.id: process.state for process in evidence.processes}
    pids = {process.id: process.pid for process in evidence.processes}
    starved = {mark.pid for mark in evidence.marks if mark.kind in expectations.starving}
    for row in evidence.rows.values():
        running = [entry for entry in row.changes if entry["status"] == Status.RUNNING]
        last = running[-1]["by"] if running else None
        if row.status in (Status.LOST, Status.INTERRUPTED):
            if not running and row.name not in expectations.objects:
                yield Problem("a waiting task got a verdict", row.id, f"{row.name} is {row.status}")
            if row.on_lost == "rerun" and row.attempt < row.max_attempts:
                detail = f"{row.name} is {row.status} after {row.attempt} of {row.max_attempts} attempts"
                yield Problem("not run again", row.id, detail)
            if row.status == Status.LOST and last is not None and states.get(last) not in ("DEAD", "STOPPED"):
                yield Problem("lost without a death", row.id, f"{row.name}, whose process {last} is {states.get(last)}")
        elif row.status == Status.CANCELLED and row.id not in evidence.cancelled:
            yield Problem("cancelled without being asked", row.id, row.name)
        elif row.status == Status.FAILED:
            expected = expectations.may_fail.get(row.name.rpartition(".")[2])
            if row.error_type != expected and pids.get(str(last)) not in starved:
                yield Problem("failed by itself", row.id, f"{row.name}: {row.error_type}, {row.transitions[-1]['why']}")


def check_histories(evidence: Evidence, expectations: Expectations) -> Iterator[Problem]:
    """Each history is one that the table of transitions allows. A note repeats the status that it stands at."""
    for row in evidence.rows.values():
        if detail := find_illegal(row):
            yield Problem("illegal history", row.id, f"{row.name}: {detail}")


def find_illegal(row: Row) -> str:
    """Return what is illegal in the history of a row, "" if nothing is."""
    previous: Status | None = None
    attempt = 0
    for entry in row.changes:
        status = Status(entry["status"])
        if not may_follow(previous, status):
            return f"{status} after {previous}"
        # A drain gives an attempt back.
        if entry["attempt"] < attempt - (status is Status.READY):
            return f"attempt {entry['attempt']} after {attempt}"
        previous, attempt = status, entry["attempt"]
    if (row.status, row.attempt) != (previous, attempt):
        return f"it ends with {previous}, attempt {attempt}; the row is {row.status}, attempt {row.attempt}"
    return ""


def check_final_is_final(evidence: Evidence, expectations: Expectations) -> Iterator[Problem]:
    for id_, final in evidence.finals.items():
        row = evidence.rows.get(id_)
        if row is None:
            yield Problem("a final row is gone", id_, f"it was {final}")
        elif row.final != final:
            yield Problem("a final state was changed", id_, f"{row.name} was {final} and is {row.final}")


Check = Callable[[Evidence, Expectations], Iterator[Problem]]
CHECKS: tuple[Check, ...] = (
    check_none_is_missing,
    check_refused_is_nowhere,
    check_none_lives_for_ever,
    check_starts,
    check_what_ran_has_a_row,
    check_success_was_real,
    check_verdicts,
    check_histories,
    check_final_is_final,
)
