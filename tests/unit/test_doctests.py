"""The examples in the pure modules."""

from __future__ import annotations

import doctest

import pytest

from bgtasks import advice, frames, histogram, parameters, rollups, sensitive, status, stuck, uuid7, versions
from bgtasks.admin import (
    fire_form,
    formats,
    functions,
    progress,
    task_page,
    timeline,
    traceback_view,
)
from bgtasks.admin.pictures import columns, drains, elapsed, sparkline, states, strip
from bgtasks.maintenance import deaths, observation
from bgtasks.management import activity_view, base


@pytest.mark.parametrize(
    "module",
    [
        activity_view,
        histogram,
        rollups,
        columns,
        drains,
        elapsed,
        sparkline,
        advice,
        base,
        deaths,
        frames,
        observation,
        parameters,
        sensitive,
        status,
        fire_form,
        stuck,
        formats,
        functions,
        progress,
        states,
        strip,
        task_page,
        timeline,
        traceback_view,
        uuid7,
        versions,
    ],
    ids=lambda module: module.__name__,
)
def test_examples_hold(module):
    result = doctest.testmod(module)

    assert result.attempted
    assert not result.failed
