"""Timelines of stored histories, which may hold any JSON."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.test import override_settings

from bgtasks.admin.tasks.timeline import MAX_STEPS, MIN_WIDTH, WIDTH, read_stays, read_steps


def step(status, second, **more):
    return {"status": status, "at": f"2026-01-02T03:04:{second:02}+00:00", **more}


def test_time_since_the_previous_step():
    steps = read_steps([step("READY", 1), step("RUNNING", 3, attempt=1, by="web-1", why="claimed")])

    assert [each.since_previous for each in steps] == [None, timedelta(seconds=2)]
    assert (steps[1].label, steps[1].attempt, steps[1].by, steps[1].why) == ("Running", "1", "web-1", "claimed")


@pytest.mark.parametrize(
    "history",
    [
        None,
        7,
        "x",
        {},
        {"status": "READY"},
        [None, 1, "x", [], [[]]],
        [{}],
        [{"status": None}],
        [{"status": {}, "at": []}],
    ],
)
def test_malformed_history_is_read_without_an_error(history):
    assert read_stays(read_steps(history), datetime.now(UTC)) == []


@pytest.mark.parametrize(
    "at",
    ["", "x", "2026-13-45T00:00:00Z", 5, None, "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"],
)
@override_settings(TIME_ZONE="Pacific/Auckland")
def test_malformed_time_is_no_time(at):
    assert read_steps([{"status": "READY", "at": at}])[0].at is None


def test_unknown_status_is_shown_as_it_is():
    assert read_steps([{"status": "BAKED"}])[0].label == "BAKED"


def test_only_the_newest_of_very_many_steps_are_shown():
    steps = read_steps([step("READY", 0, attempt=number) for number in range(1000)])

    assert len(steps) == MAX_STEPS
    assert steps[-1].attempt == "999"


def test_bar_is_filled_and_the_shortest_stay_is_seen():
    steps = read_steps([step("READY", 0), step("RUNNING", 0, attempt=1), step("SUCCESSFUL", 50)])
    steps = [steps[0], *read_steps([{**step("RUNNING", 0), "at": "2026-01-02T03:04:00.001+00:00"}]), steps[2]]

    stays = read_stays(steps, steps[-1].at)

    assert [stay.status for stay in stays] == ["READY", "RUNNING"]
    assert stays[0].width >= MIN_WIDTH - 1
    assert sum(stay.width for stay in stays) == pytest.approx(WIDTH, abs=2)


def test_clock_that_was_set_back_leaves_the_bar_alone():
    steps = read_steps([step("READY", 9), step("RUNNING", 3), step("SUCCESSFUL", 5)])

    assert [stay.status for stay in read_stays(steps, steps[-1].at)] == ["RUNNING"]
    assert steps[1].since_previous < timedelta(0)
