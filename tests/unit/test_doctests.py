"""The examples in the pure modules."""

from __future__ import annotations

import doctest

import pytest

from bgtasks import advice, frames, parameters, sensitive, status, stuck, uuid7, versions
from bgtasks.admin import drain_advice, formats, timeline, traceback_view
from bgtasks.maintenance import deaths, observation
from bgtasks.management import base


@pytest.mark.parametrize(
    "module",
    [
        advice,
        base,
        deaths,
        drain_advice,
        frames,
        observation,
        parameters,
        sensitive,
        status,
        stuck,
        formats,
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
