from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from bgtasks.conf import Settings, find_problems, get_settings


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"HEARTBEET": 5}, "Did you mean 'HEARTBEAT'"),
        ({"heartbeat": 5}, "Did you mean 'HEARTBEAT'"),
        ({5: 5}, "unknown key 5"),
        ({"MAX_RUNNING": "500"}, "not of type int"),
        ({"MAX_RUNNING": 2.5}, "not of type int"),
        ({"MAX_RUNNING": True}, "not of type int"),
        ({"MAX_RUNNING": 0}, "greater than 0"),
        ({"HEARTBEAT": -1}, "greater than 0"),
        ({"HEARTBEAT": float("nan")}, "greater than 0"),
        ({"DRAIN_TIMEOUT": float("inf")}, "at least 0"),
        ({"RELEASE": None}, "not of type str"),
        ({"HEARTBEAT": 15}, "living processes"),
        (["HEARTBEAT"], "not a dictionary"),
    ],
)
def test_each_mistake_is_named_with_its_fix(values: Any, match: str) -> None:
    problems = find_problems(values)
    assert len(problems) == 1
    assert match in " ".join(problems[0])
    with override_settings(BGTASKS=values), pytest.raises(ImproperlyConfigured):
        get_settings()


def test_all_mistakes_are_reported_at_once() -> None:
    assert len(find_problems({"A": 1, "B": 2, "MAX_RUNNING": None})) == 3


@pytest.mark.parametrize(
    "values",
    [{}, {"HEARTBEAT": 1, "DEAD_AFTER": 4.5}, {"DRAIN_TIMEOUT": 0}, {"DB_LANES": None}, {"SPOOL_PATH": Path("/tmp")}],
)
def test_what_is_accepted(values: Any) -> None:
    assert find_problems(values) == []
    with override_settings(BGTASKS=values):
        assert isinstance(get_settings(), Settings)


def test_an_override_is_seen_and_forgotten() -> None:
    with override_settings(BGTASKS={"MAX_RUNNING": 3}):
        assert get_settings().max_running == 3
    assert get_settings().max_running == 500
