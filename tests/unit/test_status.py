from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bgtasks.status import FINISHED, LIVE, TRANSITIONS, Status, may_follow

statuses = st.sampled_from(list(Status))


def test_each_status_is_in_the_table_and_either_live_or_finished() -> None:
    assert set(TRANSITIONS) == {None, *Status}
    assert {Status.READY, Status.RUNNING} == LIVE
    assert set(Status) == LIVE | FINISHED
    assert not LIVE & FINISHED


def test_django_spells_the_first_four_alike() -> None:
    assert [status.value for status in list(Status)[:4]] == ["READY", "RUNNING", "SUCCESSFUL", "FAILED"]


@given(statuses, statuses)
def test_nothing_follows_a_finished_status(previous: Status, status: Status) -> None:
    if previous.is_finished:
        assert not may_follow(previous, status)


@given(statuses)
def test_a_task_begins_live(status: Status) -> None:
    assert may_follow(None, status) == (status in LIVE)


@given(statuses)
def test_every_live_status_can_reach_every_finished_one(status: Status) -> None:
    reachable: set[Status] = set()
    front = {status}
    while front:
        reachable |= front
        front = {following for found in front for following in TRANSITIONS[found]} - reachable
    assert status.is_finished or reachable >= FINISHED


class Walk(RuleBasedStateMachine):
    """After any sequence of attempted transitions a task has finished at most once, and keeps that status."""

    def __init__(self) -> None:
        super().__init__()
        self.status: Status | None = None
        self.finished: list[Status] = []

    @rule(status=statuses)
    def try_to_follow(self, status: Status) -> None:
        if may_follow(self.status, status):
            self.status = status
            if status.is_finished:
                self.finished.append(status)

    @invariant()
    def finishes_once(self) -> None:
        assert len(self.finished) <= 1
        assert not self.finished or self.status is self.finished[0]


TestWalk = Walk.TestCase
