"""The verifier finds each kind of broken promise, and no problem in sound evidence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from .evidence import Evidence, Fate, Fired, Process, Row
from .figures import find_false_deaths, find_forgotten_ages, find_rescues
from .marks import END, START, Mark
from .verifier import Expectations, check_keys, check_later, check_limits, check_rates, find_problems

EXPECTATIONS = Expectations(objects=frozenset({"object"}), may_fail={"fail": "ValueError"})
ONE, OTHER = "process one", "process other"


def entry(status: str, at: int, attempt: int = 1, by: str = ONE, why: str = "") -> dict[str, Any]:
    return {"status": status, "at": f"1970-01-01T00:00:{at:02}+00:00", "attempt": attempt, "by": by, "why": why}


def row(id_: str, name: str, on_lost: str, *transitions: dict[str, Any], error_type: str = "") -> Row:
    last = transitions[-1]
    return Row(
        id_, name, f"tag {id_}", last["status"], on_lost, last["attempt"], 3 if on_lost == "rerun" else 1,
        last["at"], error_type, list(transitions),
    )  # fmt: skip


def mark(what: str, id_: str, attempt: int = 1, pid: int = 1) -> Mark:
    return Mark(1.0, what, id_, attempt, pid, "work", f"tag {id_}")


@pytest.fixture
def evidence() -> Evidence:
    """Process 1 was killed at 10 s, while "lost" and "rerun" ran and before "forgotten" was written."""
    rows = [
        row("done", "work", "fail", entry("RUNNING", 1), entry("SUCCESSFUL", 2)),
        row(
            "lost", "work", "fail", entry("RUNNING", 1), entry("LOST", 13, by=OTHER),
            entry("LOST", 14, why="came too late: SUCCESSFUL"),
        ),
        row(
            "rerun", "again", "rerun", entry("RUNNING", 1), entry("READY", 12, by=OTHER),
            entry("RUNNING", 13, 2, OTHER), entry("SUCCESSFUL", 14, 2, OTHER),
        ),
        row("failed", "fail", "fail", entry("RUNNING", 1), entry("FAILED", 2), error_type="ValueError"),
        row("object", "object", "fail", entry("READY", 1, 0), entry("LOST", 13, 0, OTHER)),
    ]  # fmt: skip
    return Evidence(
        fired=[
            *(Fired(f"tag {row.id}", row.name, "afire", "acknowledged", row.id, 1, 1.0) for row in rows),
            Fired("tag forgotten", "work", "fire", "acknowledged", "forgotten", 1, 9.0),
            Fired("tag refused", "work", "afire", "refused", None, 1, 9.0),
        ],
        marks=[
            mark(START, "done"), mark(END, "done"), mark(START, "lost"), mark(START, "rerun"),
            mark(START, "rerun", 2, 2), mark(END, "rerun", 2, 2), mark(START, "failed"), mark(START, "forgotten"),
        ],
        rows={row.id: row for row in rows},
        processes=[Process(ONE, 1, "DEAD", 12.0), Process(OTHER, 2, "ALIVE", None)],
        fates={1: Fate(1, 10.0, -9, []), 2: Fate(2, None, None, [])},
        finals={row.id: row.final for row in rows},
    )  # fmt: skip


def test_evidence_in_order_has_no_problems(evidence: Evidence) -> None:
    assert find_problems(evidence, EXPECTATIONS) == []


def delete(evidence: Evidence) -> None:
    del evidence.rows["done"], evidence.finals["done"]


def delete_what_was_final(evidence: Evidence) -> None:
    del evidence.rows["failed"]


def forget_without_a_death(evidence: Evidence) -> None:
    evidence.fates[1] = Fate(1, 10.0, -15, [])


def start_again(evidence: Evidence) -> None:
    evidence.marks.append(mark(START, "lost"))


def start_more_often_than_recorded(evidence: Evidence) -> None:
    evidence.marks.append(mark(START, "rerun", 2))


def start_what_was_refused(evidence: Evidence) -> None:
    evidence.marks.append(replace(mark(START, "new"), tag="tag refused", pid=2))


def store_what_was_refused(evidence: Evidence) -> None:
    evidence.rows["done"] = replace(evidence.rows["done"], tag="tag refused")


def change(**values: Any) -> Callable[[Evidence], None]:
    def change_a_row(evidence: Evidence) -> None:
        evidence.rows["lost"] = replace(evidence.rows["lost"], **values)

    return change_a_row


def end_without_a_mark(evidence: Evidence) -> None:
    evidence.marks.remove(mark(END, "rerun", 2, 2))


def lose_in_a_living_process(evidence: Evidence) -> None:
    evidence.processes[0] = Process(ONE, 1, "ALIVE", None)


def history(*transitions: dict[str, Any]) -> Callable[[Evidence], None]:
    return change(transitions=list(transitions), status=transitions[-1]["status"], attempt=transitions[-1]["attempt"])


@pytest.mark.parametrize(
    ("forge", "promise"),
    [
        (delete, "missing"),
        (delete, "ran without a row"),
        (delete_what_was_final, "a final row is gone"),
        (forget_without_a_death, "missing"),
        (start_again, "started twice"),
        (start_more_often_than_recorded, "started unrecorded"),
        (start_what_was_refused, "refused, but started"),
        (store_what_was_refused, "refused, but stored"),
        (change(status="RUNNING"), "lives for ever"),
        (change(finished_at="later"), "a final state was changed"),
        (change(attempt=2), "too many attempts"),
        (end_without_a_mark, "successful without an end"),
        (lose_in_a_living_process, "lost without a death"),
        (change(on_lost="rerun", max_attempts=3), "not run again"),
        (history(entry("READY", 1, 0), entry("LOST", 2, 0)), "a waiting task got a verdict"),
        (history(entry("RUNNING", 1), entry("CANCELLED", 2)), "cancelled without being asked"),
        (history(entry("RUNNING", 1), entry("FAILED", 2)), "failed by itself"),
        (history(entry("RUNNING", 1), entry("LOST", 2), entry("SUCCESSFUL", 3)), "illegal history"),
        (history(entry("RUNNING", 1), entry("RUNNING", 2, 2), entry("LOST", 3, 2)), "illegal history"),
        (change(transitions=[entry("RUNNING", 1)]), "illegal history"),
    ],
)
def test_each_broken_promise_is_noticed(evidence: Evidence, forge: Callable[[Evidence], None], promise: str) -> None:
    forge(evidence)
    assert promise in {problem.promise for problem in find_problems(evidence, EXPECTATIONS)}


POLICIES = Expectations(
    keys={"keyed": lambda tag: tag[0]},
    most_at_once={"bounded": 1},
    most_per_second={"rated": 2},
    delaying=frozenset({"freeze"}),
    later={"later": 5.0},
)


def run(kind: str, number: int, began: float, ended: float, pid: int = 1) -> list[Mark]:
    both = ((began, START), (ended, END))
    return [Mark(at, what, f"{kind}{number}", 1, pid, kind, f"a{number}") for at, what in both]


@pytest.mark.parametrize(
    ("marks", "promise"),
    [
        (run("keyed", 1, 1, 2) + run("keyed", 2, 2, 3), None),
        (run("keyed", 1, 1, 2) + run("keyed", 2, 1.5, 3, pid=2), "a key was had twice"),
        (run("bounded", 1, 1, 2) + run("bounded", 2, 1.5, 3, pid=2), None),
        (run("bounded", 1, 1, 2) + run("bounded", 2, 1.5, 3), "too many at once"),
        (run("rated", 1, 1, 2) + run("rated", 2, 1.1, 2) + run("rated", 3, 2.0, 2), None),
        (run("rated", 1, 1, 2) + run("rated", 2, 1.1, 2) + run("rated", 3, 1.9, 2, pid=2), "too fast"),
        (
            run("rated", 1, 1, 2) + run("rated", 2, 1.1, 2) + run("rated", 3, 1.9, 2, pid=3),
            None,
        ),  # It was frozen.
        (run("later", 1, 8, 9), None),
        (run("later", 1, 7.9, 9), "too early"),
    ],
)
def test_policies_are_verified(marks: list[Mark], promise: str | None) -> None:
    rows = {mark.id: row(mark.id, mark.kind, "fail", entry("RUNNING", 1), entry("SUCCESSFUL", 2)) for mark in marks}
    fired = [Fired(tag, "later", "afire", "acknowledged", None, 1, 3.0) for tag in {mark.tag for mark in marks}]
    fates = {3: Fate(3, None, None, [(1.0, "freeze")])}
    evidence = Evidence(fired=fired, marks=marks, rows=rows, fates=fates)
    checks = (check_keys, check_limits, check_rates, check_later)
    found = {problem.promise for check in checks for problem in check(evidence, POLICIES)}
    assert found == ({promise} if promise else set())


def test_figures(evidence: Evidence) -> None:
    assert {key[0]: rescue.seconds for key, rescue in find_rescues(evidence).items()} == {"lost": 3.0, "rerun": 2.0}
    assert find_forgotten_ages(evidence) == [1.0]
    assert find_false_deaths(evidence, frozenset()) == []
    evidence.fates[1] = Fate(1, None, None, [(11.0, "terminate")])
    assert [process.id for process in find_false_deaths(evidence, frozenset())] == [ONE]
