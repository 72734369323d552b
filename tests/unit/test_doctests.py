"""The examples in the pure modules."""

from __future__ import annotations

import doctest

import pytest

from bgtasks import frames, status, uuid7
from bgtasks.admin.functions import declaration, form_fields
from bgtasks.admin.pictures import columns, drains, elapsed, sparkline, strip
from bgtasks.admin.shared import fired_by, formats
from bgtasks.admin.tasks import progress, states, timeline
from bgtasks.admin.tasks import traceback as traceback_view
from bgtasks.definition import parameters, sensitive, versions
from bgtasks.maintenance import death_watch
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
        death_watch,
        parameters,
        sensitive,
        status,
        declaration,
        stuck,
        fired_by,
        formats,
        form_fields,
        progress,
        states,
        strip,
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
