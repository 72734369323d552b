"""The examples in the pure modules."""

from __future__ import annotations

import doctest

import pytest

from bgtasks import frames, status, uuid7
from bgtasks.admin.functions import fire_form
from bgtasks.admin.functions import page as functions
from bgtasks.admin.pictures import columns, drains, elapsed, sparkline, states, strip
from bgtasks.admin.shared import formats
from bgtasks.admin.tasks import page as task_page
from bgtasks.admin.tasks import progress, timeline
from bgtasks.admin.tasks import traceback as traceback_view
from bgtasks.definition import parameters, sensitive, versions
from bgtasks.maintenance import observation
from bgtasks.management import activity_view
from bgtasks.management import formats as command_formats
from bgtasks.models import histogram
from bgtasks.reports import crash_suspects, drain_advice, rollups, stuck


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
        drain_advice,
        command_formats,
        crash_suspects,
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
