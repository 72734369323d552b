"""Advice from measured durations."""

from __future__ import annotations

import pytest

from bgtasks.conf import Settings
from bgtasks.definition import task
from bgtasks.models.histogram import Histogram, bin_of, upper_end
from bgtasks.reports import drain_advice as advice
from bgtasks.reports.drain_advice import LEAST_MEASURED, advise
from bgtasks.reports.rollups import Total

SETTINGS = Settings(drain_timeout=20, cancel_grace=5, flush_timeout=3)


def took(*parts: tuple[float, int]) -> Total:
    """Return the totals of tasks, given as (seconds, count)."""
    histogram: Histogram = {}
    for seconds, count in parts:
        histogram[bin_of(seconds)] = histogram.get(bin_of(seconds), 0) + count
    return Total(took=histogram)


def test_a_timeout_that_covers_all_needs_no_other():
    found = advise({"send": took((0.2, 900)), "export": took((12, 100))}, SETTINGS)

    assert found is not None
    assert (found.covered_part, found.cut_part, found.measured) == (1.0, 0.0, 1000)
    assert (found.too_long, found.least_timeout, found.least_patience) == ([], None, None)


def test_a_function_that_is_too_long_asks_for_a_longer_timeout():
    found = advise({"send": took((0.2, 991)), "export": took((140, 20))}, SETTINGS)

    assert found is not None
    assert found.covered_part == pytest.approx(991 / 1011)
    [export] = found.too_long
    assert (export.name, export.measured, export.reruns) == ("export", 20, False)
    assert export.p95 == pytest.approx(140, rel=0.09)
    assert found.least_timeout is not None
    assert upper_end(bin_of(140)) <= found.least_timeout <= 170
    assert found.least_timeout % 10 == 0
    assert found.least_patience == found.least_timeout + 8


def test_the_longest_function_is_named_first_and_decides():
    found = advise({"a": took((30, 50)), "b": took((300, 50)), "c": took((60, 50))}, SETTINGS)

    assert found is not None
    assert [each.name for each in found.too_long] == ["b", "c", "a"]
    assert found.least_timeout is not None
    assert found.least_timeout >= 300


def test_a_long_task_is_the_likelier_to_be_met():
    """One task in a hundred takes 200 s: nine tenths of all running time."""
    found = advise({"send": took((0.2, 99)), "export": took((200, 1))}, SETTINGS)

    assert found is not None
    assert found.covered_part == pytest.approx(0.99)
    assert found.cut_part > 0.75


def test_of_too_little_nothing_is_concluded():
    assert advise({}, SETTINGS) is None
    assert advise({"export": took((140, LEAST_MEASURED - 1))}, SETTINGS) is None


def test_a_function_that_ran_a_few_times_is_not_named():
    found = advise({"send": took((0.2, 100)), "export": took((140, LEAST_MEASURED - 1))}, SETTINGS)

    assert found is not None
    assert found.too_long == []
    assert found.covered_part < 1


def test_tasks_that_run_again_are_counted_apart():
    @task(name="tests.advice.export", on_lost="rerun")
    async def export() -> None: ...

    found = advise({"tests.advice.export": took((140, 20)), "gone": took((140, 20))}, SETTINGS)

    assert found is not None
    assert {each.name: each.reruns for each in found.too_long} == {"tests.advice.export": True, "gone": False}


def test_no_timeout_at_all_covers_nothing():
    found = advise({"send": took((0.2, 100))}, Settings(drain_timeout=0))

    assert found is not None
    assert (found.covered_part, found.cut_part) == (0.0, 1.0)
    assert found.least_timeout == 1


def test_the_longest_durations_are_no_error():
    found = advise({"send": took((1e12, 100))}, SETTINGS)

    assert found is not None
    assert found.least_timeout is not None
    assert advice.find_cut_part({}, 20.0) == 0.0
