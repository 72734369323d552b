"""
The verifier: compares the promises of bgtasks with the evidence, and names each task that breaks one.

`Expectations` describes the harness's tasks: which may fail, which are coroutine objects. Each check is a function of
the evidence.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

from bgtasks.status import Status, may_follow

from .evidence import Evidence, Row
from .marks import END, START, Mark


@dataclass(frozen=True)
class Problem:
    """A broken promise, and the task that shows it."""

    promise: str
    task: str
    detail: str

    def __str__(self) -> str:
        return f"{self.promise}: {self.task}: {self.detail}"


@dataclass(frozen=True)
class Expectations:
    """Facts about the harness's tasks that the evidence does not contain."""

    objects: frozenset[str] = frozenset()  # Names of coroutine objects, which cannot run again.
    may_fail: dict[str, str] = field(default_factory=dict)  # The error types of tasks that raise, by short name.
    starving: frozenset[str] = frozenset()  # Kinds of tasks that take all memory: beside them any code may raise.
    keys: dict[str, Callable[[str], str]] = field(default_factory=dict)  # By kind: the key of a tag.
    most_at_once: dict[str, int] = field(default_factory=dict)  # By kind, in a process.
    most_per_second: dict[str, int] = field(default_factory=dict)  # By kind.
    delaying: frozenset[str] = frozenset()  # Acts that keep a process from starting tasks that it has counted.
    later: dict[str, float] = field(default_factory=dict)  # By kind: the least seconds from the firing to the start.


def find_problems(evidence: Evidence, expectations: Expectations) -> list[Problem]:
    """Return all problems in the evidence of a round that has come to rest."""
    return [problem for check in CHECKS for problem in check(evidence, expectations)]


def check_none_is_missing(evidence: Evidence, expectations: Expectations) -> Iterator[Problem]:
    """Each task acknowledged by `afire` or a commit has a row; one accepted by `fire` too, unless its process died."""
    for fired in evidence.fired:
        if fired.outcome != "acknowledged" or fired.id in evidence.rows:
            continue
        fate = evidence.fates.get(fired.pid)
        is_killed = fate is not None and fate.was_killed
        if fired.mode in ("afire", "commit") or not is_killed:
            yield Problem("missing", str(fired.id), f"{fired.name} by {fired.mode}, {fired.tag}, in {fired.pid}")


def check_refused_is_nowhere(evidence: Evidence, expectations: Expectations) -> Iterator[Problem]:
    """A refused or rolled-back task is never stored or started."""
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
    """Each start has its entry in the history, and a task that may not rerun was started once."""
    starts: dict[str, Counter[int]] = defaultdict(Counter)
    for mark in evidence.marks:
        if mark.what == START:
            starts[mark.id][mark.attempt] += 1
    for id_, attempts in starts.items():
        row = evidence.rows.get(id_)
        if row is None:
            continue
        if row.on_lost == "fail" and (attempts.total() > row.max_attempts or max(attempts.values()) > 1):
            yield Problem("started twice", id_, f"{row.name} started {attempts.total()} times: {dict(attempts)}")
        recorded = Counter(entry["attempt"] for entry in row.changes if entry["status"] == Status.RUNNING)
        if row.name in expectations.objects and row.status == Status.LOST:
            # A waiting task is started without a request, and its process may be killed before that is written.
            recorded[1] = 1
        for attempt, count in (attempts - recorded).items():
            yield Problem("started unrecorded", id_, f"{row.name}, attempt {attempt}, {count} more than its history")
        if row.attempt > row.max_attempts:
            yield Problem("too many attempts", id_, f"{row.name}: {row.attempt} of {row.max_attempts}")


def check_what_ran_has_a_row(evidence: Evidence, expectations: Expectations) -> Iterator[Problem]:
    """`afire` and a commit record first; a task of `fire` may be forgotten with a process that is killed at once."""
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
    """The end of each task agrees with its declaration and with an act."""
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
    """The table of transitions allows each history. A note repeats the status before it."""
    for row in evidence.rows.values():
        if detail := find_illegal(row):
            yield Problem("illegal history", row.id, f"{row.name}: {detail}")


def find_illegal(row: Row) -> str:
    """Return the illegal step in the history of a row; "" if there is none."""
    previous: Status | None = None
    attempt = 0
    for entry in row.changes:
        status = Status(entry["status"])
        if not may_follow(previous, status):
            return f"{status} after {previous}"
        # A drain does not count the attempt.
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


def check_keys(evidence: Evidence, expectations: Expectations) -> Iterator[Problem]:
    """
    Tasks with one key never run at the same time.

    Tasks with a verdict are exempt: the end of a killed one is unknown, and a silenced one goes on for a moment after
    its key is free.
    """
    spans: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
    for mark, ended in _runs(evidence):
        if (
            (key_of := expectations.keys.get(mark.kind)) is not None
            and ended is not None
            and _ended_by_itself(evidence, mark)
        ):
            spans[key_of(mark.tag)].append((mark.at, ended, mark.id))
    for key, runs in spans.items():
        for (_, ended, id_), (began, _, next_id) in pairwise(sorted(runs)):
            if began < ended:
                yield Problem("a key was had twice", next_id, f"{key!r}, {ended - began:.3f} s before {id_} ended")


def check_limits(evidence: Evidence, expectations: Expectations) -> Iterator[Problem]:
    """No process runs more tasks at once than its limits allow."""
    runs: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
    for mark, ended in _runs(evidence):
        if mark.kind in expectations.most_at_once and ended is not None:
            runs[mark.kind, mark.pid].append((mark.at, ended))
    for (kind, pid), spans in runs.items():
        steps = sorted([(began, 1) for began, _ in spans] + [(ended, -1) for _, ended in spans])
        most = max(accumulate(step for _, step in steps))
        if most > expectations.most_at_once[kind]:
            yield Problem("too many at once", kind, f"{most} in {pid}")


def check_rates(evidence: Evidence, expectations: Expectations) -> Iterator[Problem]:
    """In no second do more tasks start than the rate allows, over all processes that no act delayed."""
    delayed = {pid for pid, fate in evidence.fates.items() if any(act in expectations.delaying for _, act in fate.acts)}
    for kind, most in expectations.most_per_second.items():
        started = [mark for mark in evidence.marks if mark.what == START and mark.kind == kind]
        starts = sorted(mark.at for mark in started if mark.pid not in delayed)
        for first, last in zip(starts, starts[most:], strict=False):
            if last - first < 1:
                yield Problem("too fast", kind, f"{most + 1} starts in {last - first:.3f} s")


def check_later(evidence: Evidence, expectations: Expectations) -> Iterator[Problem]:
    """No task starts before its moment. All processes have the clock of this machine."""
    fired = {each.tag: each for each in evidence.fired}
    for mark in evidence.marks:
        wait = expectations.later.get(mark.kind)
        if wait is not None and mark.what == START and mark.tag in fired and mark.at < fired[mark.tag].at + wait:
            yield Problem("too early", mark.id, f"{mark.kind}: {mark.at - fired[mark.tag].at:.3f} s after the request")


def _ended_by_itself(evidence: Evidence, mark: Mark) -> bool:
    row = evidence.rows.get(mark.id)
    return row is not None and row.status in (Status.SUCCESSFUL, Status.FAILED)


def _runs(evidence: Evidence) -> Iterator[tuple[Mark, float | None]]:
    """Return each start, with its end if there is one."""
    ends = {(mark.id, mark.attempt, mark.pid): mark.at for mark in evidence.marks if mark.what == END}
    for mark in evidence.marks:
        if mark.what == START:
            yield mark, ends.get((mark.id, mark.attempt, mark.pid))


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
    check_keys,
    check_limits,
    check_rates,
    check_later,
)
