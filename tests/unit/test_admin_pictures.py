"""The pictures of a task's page: its course, its neighbours and its progress."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID

import pytest

from bgtasks.admin.pictures import strip
from bgtasks.admin.pictures.strip import COUNT, HEIGHT, LOWEST, Past
from bgtasks.admin.tasks.progress import describe_progress
from bgtasks.admin.tasks.states import FIRST, LAST, Box, Fold, draw
from bgtasks.admin.tasks.timeline import read_steps
from bgtasks.models import BackgroundTask

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def make_steps(*statuses: str, most: int = 5000):
    history = [
        {"status": status, "at": (NOW + timedelta(seconds=number)).isoformat(), "attempt": 1, "why": f"why {number}"}
        for number, status in enumerate(statuses)
    ]
    return read_steps(history, most)


# States.


def test_a_box_for_each_status_and_the_end_has_no_length():
    boxes = draw(make_steps("READY", "RUNNING", "FAILED"), None)

    assert [(box.step.status, box.length, box.is_end, box.is_open) for box in boxes] == [
        ("READY", timedelta(seconds=1), False, False),
        ("RUNNING", timedelta(seconds=1), False, False),
        ("FAILED", None, True, False),
    ]


def test_the_last_box_of_a_live_task_grows():
    steps = make_steps("READY", "RUNNING")

    lengths = [draw(steps, NOW + timedelta(seconds=later))[-1].length for later in (2, 9)]

    assert lengths == [timedelta(seconds=1), timedelta(seconds=8)]
    assert draw(steps, NOW)[-1].is_open


def test_a_wait_after_an_attempt_differs_from_the_first():
    boxes = draw(make_steps("READY", "RUNNING", "READY", "RUNNING", "SUCCESSFUL"), None)

    assert [box.is_again for box in boxes] == [False, False, True, False, False]


def test_a_hundred_attempts_show_the_first_and_the_last_few():
    steps = make_steps("READY", *["RUNNING", "READY"] * 99, "RUNNING", "FAILED")

    drawn = draw(steps, None)

    [fold] = [each for each in drawn if isinstance(each, Fold)]
    boxes = [each for each in drawn if isinstance(each, Box)]
    assert len(boxes) == FIRST + LAST
    assert boxes[0].step is steps[0]
    assert boxes[-1].step is steps[-1]
    assert fold.count == len(steps) - FIRST - LAST
    assert fold.length == timedelta(seconds=fold.count)
    shown_attempts = sum(box.step.status == "RUNNING" for box in boxes)
    assert fold.attempt_count == 100 - shown_attempts


def test_a_course_that_would_hide_one_box_is_not_folded():
    steps = make_steps(*["READY", "RUNNING"] * 10)[: FIRST + LAST + 1]

    assert not any(isinstance(each, Fold) for each in draw(steps, None))


@pytest.mark.parametrize("history", [None, [{}], [{"status": "X", "at": 7}, {"status": [], "at": "x"}]])
def test_histories_of_anything_are_drawn_without_an_error(history):
    for box in draw(read_steps(history), NOW):
        assert isinstance(box, Box)
        assert box.length is None


# The strip.


def past(number: int, seconds: float | None, status: str = "SUCCESSFUL") -> Past:
    started_at = None if seconds is None else NOW - timedelta(seconds=seconds)
    return Past(UUID(int=number), status, started_at, NOW if seconds is not None else None)


def test_bars_grow_with_the_logarithm_of_what_a_task_took():
    heights = [bar.height for bar in strip.draw([past(n + 4, 10.0**n) for n in range(-4, 4)], NOW).bars]

    assert heights[0] == heights[1] == LOWEST
    assert heights[-1] == HEIGHT
    steps = [round(high - low, 1) for low, high in pairwise(heights[1:])]
    assert max(steps) - min(steps) < 0.3


def test_what_never_ran_is_seen_all_the_same():
    [bar] = strip.draw([past(1, None, "CANCELLED")], NOW).bars

    assert (bar.height, bar.seconds) == (LOWEST, None)


def test_all_bars_have_room_and_the_current_one_is_marked():
    drawn = strip.draw([past(n, n / 10) for n in range(COUNT)], NOW, UUID(int=7))

    assert [bar.task.id.int for bar in drawn.bars if bar.is_current] == [7]
    assert drawn.bars[-1].x + drawn.width <= 1000
    assert drawn.width < drawn.slot


def test_a_clock_that_was_set_back_is_no_error():
    ahead = Past(UUID(int=1), "RUNNING", NOW + timedelta(hours=1), None)

    assert strip.draw([ahead], NOW).bars[0].seconds == 0.0


# Progress.


def describe(progress, **more):
    return describe_progress(BackgroundTask(status="RUNNING", progress=progress, **more))


def test_progress_with_a_total_is_a_bar():
    shown = describe({"done": 30, "total": 120, "note": "rows", "at": "2026-01-02T03:04:05Z"})

    assert (shown["width"], shown["words"], shown["note"]) == (250.0, "25 %: 30 of 120", "rows")


def test_progress_without_a_total_is_a_number():
    shown = describe({"done": 1500.5, "total": None, "note": ""})

    assert (shown["width"], shown["words"]) == (None, "1500.5 done")


def test_what_is_left_is_guessed_from_the_pace():
    progress = {"done": 25, "total": 100, "at": "2026-01-02T03:04:05Z"}

    assert describe(progress, started_at=NOW - timedelta(seconds=10))["left"] == "about 30 s left"
    assert describe({**progress, "done": 0}, started_at=NOW)["left"] == ""
    assert describe_progress(BackgroundTask(status="FAILED", progress=progress, started_at=NOW))["left"] == ""


@pytest.mark.parametrize(
    "progress",
    [
        7,
        [],
        "x",
        True,
        {},
        {"done": "3"},
        {"done": True},
        {"done": -1},
        {"done": 10**400},
        {"done": 3, "total": 5e-324},
        {"done": 3, "total": "x", "note": {"a": []}, "at": []},
        {"done": 1, "total": 1e15, "at": "0001-01-01T00:00:00+14:00"},
    ],
    ids=repr,
)
def test_progress_of_anything_is_no_error(progress):
    assert describe(progress, started_at=NOW)


def test_without_progress_nothing_is_shown():
    assert describe(None) is None
