"""The options: their values, their contradictions, and those that a row can keep."""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bgtasks
from bgtasks.definition import Task
from bgtasks.definition.options import _CHECKS, LONGEST_DELAY, STORED_OPTIONS, Options, TaskOptions, UsingOptions

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
NAIVE = NOW.replace(tzinfo=None)


class Nowhere(tzinfo):
    """A time zone without an offset from UTC: Python considers such a moment naive."""

    def utcoffset(self, moment: datetime | None) -> None:
        return None


class Word(enum.StrEnum):
    RERUN = "rerun"
    LINEAR = "linear"
    EXISTING = "existing"
    QUEUE = "slow"


class Number(enum.IntEnum):
    HIGH = 50


async def coroutine(value: object = None) -> None: ...


def plain() -> None: ...


def declare(**options: Any) -> Task[..., Any]:
    return bgtasks.task(name="declared", **options)(coroutine)


def test_each_option_is_checked_typed_and_has_a_default() -> None:
    fields = set(Options.__dataclass_fields__)

    assert fields == set(_CHECKS) == set(TaskOptions.__annotations__)
    only_declared = {"retry_on", "give_up_on", "on_soft_timeout", "version", "aliases", "sensitive"}
    only_declared |= {"max_running", "rate", "isolated"}
    assert set(UsingOptions.__annotations__) == fields - only_declared
    assert set(STORED_OPTIONS) < set(UsingOptions.__annotations__)


def test_defaults_pass_their_own_checks() -> None:
    for name in _CHECKS:
        default = getattr(Options(), name)
        assert _CHECKS[name](name, default) == default


WRONG: list[tuple[str, type[Exception], list[Any]]] = [
    ("on_lost", ValueError, [None, "", "Rerun", "retry", True, 3, ["fail"]]),
    ("stuck_after", TypeError, ["5", True, b"5", [5], timedelta(seconds=5)]),
    ("stuck_after", ValueError, [0, -1, -0.0, math.nan, math.inf, -math.inf, 1e300, 10**400]),
    ("fire_on_commit", TypeError, [0, 1, "yes"]),
    ("queue", TypeError, [None, 5, b"slow", ["slow"]]),
    ("queue", ValueError, ["", "a\0b", "two\nlines", "x" * 101, "\ud800"]),
    ("priority", TypeError, [None, 1.0, "1", True, math.nan]),
    ("priority", ValueError, [-101, 101, 10**400]),
    ("run_after", TypeError, [5, 5.0, "tomorrow", True, NOW.date(), NOW.time()]),
    ("run_after", ValueError, [NAIVE, NOW.replace(tzinfo=Nowhere()), timedelta.max, LONGEST_DELAY + timedelta(1)]),
    ("max_attempts", TypeError, ["3", 3.0, True, math.inf]),
    ("max_attempts", ValueError, [0, -1, 1001, 10**400]),
    ("timeout", TypeError, ["5", True, timedelta(seconds=5)]),
    ("timeout", ValueError, [0, -1, math.nan, math.inf, 1e300]),
    ("soft_timeout", TypeError, ["5", False, timedelta(seconds=5)]),
    ("soft_timeout", ValueError, [0, -1, math.nan, math.inf]),
    ("key", TypeError, [5, b"k", ["k"], True]),
    ("key", ValueError, ["", "a\0b", "x" * 201, "\ud800"]),
]
WRONG_WITH: list[tuple[dict[str, Any], str, type[Exception], list[Any]]] = [
    ({"max_attempts": 3}, "backoff", ValueError, [None, "", "random", 5, True]),
    ({"max_attempts": 3}, "backoff", TypeError, [coroutine, lambda: 1.0, lambda one, two, three: 1.0]),
    ({"max_attempts": 3}, "backoff_first", TypeError, [None, "1", True]),
    ({"max_attempts": 3}, "backoff_first", ValueError, [0, -1, math.nan, math.inf]),
    ({"max_attempts": 3}, "backoff_cap", TypeError, [None, "1", True]),
    ({"max_attempts": 3}, "backoff_cap", ValueError, [0, -1, math.nan, math.inf]),
    ({"max_attempts": 3}, "backoff_jitter", TypeError, [None, 1, 0.5, "full"]),
    (
        {"max_attempts": 3},
        "retry_on",
        TypeError,
        [None, "ValueError", ValueError(), int, [ValueError], (ValueError, 5)],
    ),
    ({"max_attempts": 3}, "give_up_on", TypeError, [None, "ValueError", ValueError(), int, {ValueError}]),
    ({"soft_timeout": 1}, "on_soft_timeout", TypeError, [5, "hook", coroutine, lambda context: None]),
    ({"key": "k"}, "unique_for", TypeError, ["5", True, timedelta(seconds=5)]),
    ({"key": "k"}, "unique_for", ValueError, [0, -1, math.nan, math.inf, 1e300]),
    ({"key": "k"}, "on_conflict", ValueError, [None, "ignore", True]),
]


def cases() -> list[Any]:
    found = [({}, *wrong) for wrong in WRONG] + WRONG_WITH
    return [
        pytest.param(with_, option, error, value, id=f"{option}-{error.__name__}-{number}")
        for with_, option, error, values in found
        for number, value in enumerate(values)
    ]


@pytest.mark.parametrize(("with_", "option", "error", "value"), cases())
def test_what_an_option_cannot_be_is_refused_where_it_is_declared_and_named(
    with_: dict[str, Any], option: str, error: type[Exception], value: Any
) -> None:
    with pytest.raises(error, match=option) as caught:
        declare(**with_, **{option: value})
    assert len(str(caught.value)) < 500

    if option in UsingOptions.__annotations__:
        with pytest.raises(error, match=option):
            declare(**with_).using(**{option: value})


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"timeout": 5, "soft_timeout": 5}, "soft_timeout"),
        ({"timeout": 5, "soft_timeout": 6.5}, "6.5 s"),
        ({"on_soft_timeout": plain}, "without soft_timeout"),
        ({"max_attempts": 3, "backoff_first": 5, "backoff_cap": 4}, "larger cap"),
        ({"max_attempts": 3, "backoff_first": 601}, "600 s"),
        ({"backoff": "linear"}, "max_attempts"),
        ({"backoff_first": 2}, "max_attempts"),
        ({"backoff_jitter": False, "max_attempts": 1}, "max_attempts"),
        ({"retry_on": ValueError}, "max_attempts"),
        ({"give_up_on": ValueError, "on_lost": "rerun"}, "max_attempts"),
        ({"unique_for": 5}, "key"),
        ({"on_conflict": "error"}, "key"),
        ({"max_attempts": 3, "backoff": lambda attempt, error: 1.0, "backoff_first": 2}, "backoff_first"),
        ({"max_attempts": 3, "backoff": lambda attempt, error: 1.0, "backoff_jitter": False}, "backoff_jitter"),
    ],
)
def test_contradictions_are_refused_with_what_to_do(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        declare(**options)


def test_using_may_contradict_what_is_declared() -> None:
    with pytest.raises(ValueError, match="soft_timeout"):
        declare(soft_timeout=5).using(timeout=4)
    with pytest.raises(ValueError, match="no second attempt"):
        declare().using(backoff="linear")
    with pytest.raises(ValueError, match="backoff_cap"):
        declare(max_attempts=2, backoff=lambda attempt, error: 1.0).using(backoff_cap=5)
    assert declare(max_attempts=3, backoff="linear").using(max_attempts=1).max_attempts == 1
    assert declare(timeout=5, soft_timeout=4).using(timeout=None).options.timeout is None


def test_a_timeout_needs_something_that_can_be_ended() -> None:
    for made in (
        lambda: bgtasks.task(name="p", timeout=5)(plain),
        lambda: bgtasks.task(name="p")(plain).using(timeout=5),
    ):
        with pytest.raises(TypeError, match=r"async def.*soft_timeout"):
            made()
    assert bgtasks.task(name="p", soft_timeout=5)(plain).has_timeouts


@pytest.mark.parametrize(
    ("option", "match"),
    [
        ("max_attempt", "'max_attempts'"),
        ("time_out", "'timeout'"),
        ("soft_timout", "'soft_timeout'"),
        ("back_off", "'backoff'"),
        ("prioritiy", "'priority'"),
        ("onlost", "'on_lost'"),
        ("zzz", "There are: .*backoff, .*unique_for"),
    ],
)
def test_an_unknown_option_names_the_nearest_one(option: str, match: str) -> None:
    with pytest.raises(TypeError, match=match) as caught:
        declare(**{option: 1})
    assert "@bgtasks.task" in str(caught.value)
    with pytest.raises(TypeError, match=match) as caught:
        declare().using(**{option: 1})
    assert ".using" in str(caught.value)


@pytest.mark.parametrize(
    ("option", "value"),
    [("retry_on", ValueError), ("give_up_on", ValueError), ("on_soft_timeout", plain), ("backoff", lambda n, e: 1.0)],
)
def test_using_refuses_what_no_row_can_keep(option: str, value: object) -> None:
    with pytest.raises(TypeError, match=rf"{option}.*row.*@bgtasks\.task\({option}="):
        declare(max_attempts=3, soft_timeout=3).using(**{option: value})


def test_name_is_no_option_of_using() -> None:
    with pytest.raises(TypeError, match="'name'"):
        declare().using(name="other")


def test_a_moment_is_for_one_firing() -> None:
    moment = datetime.now(UTC) + timedelta(hours=1)

    with pytest.raises(TypeError, match=r"\.using\(run_after="):
        declare(run_after=moment)
    assert declare().using(run_after=moment).options.run_after == moment
    assert declare(run_after=timedelta(hours=1)).using(run_after=None).options.run_after is None


@pytest.mark.parametrize(
    "value",
    [
        timedelta(0),
        timedelta(days=-1),
        timedelta.min,
        LONGEST_DELAY,
        datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
        datetime(1969, 1, 1, tzinfo=UTC),
    ],
)
def test_the_past_is_a_moment_like_any_other(value: Any) -> None:
    assert declare().using(run_after=value).options.run_after == value


def test_a_moment_that_a_database_cannot_hold_is_refused() -> None:
    for moment in (datetime.max.replace(tzinfo=UTC), datetime.max.replace(tzinfo=timezone(timedelta(hours=-12)))):
        with pytest.raises(ValueError, match="3650 days"):
            declare().using(run_after=moment)


def test_members_of_enums_become_what_they_stand_for() -> None:
    """Drivers convert a member of an enum differently, and so does JSON a subclass of float."""
    task = declare(key="k").using(
        on_lost=Word.RERUN,
        max_attempts=Number.HIGH,
        backoff=Word.LINEAR,
        on_conflict=Word.EXISTING,
        queue=Word.QUEUE,
        priority=Number.HIGH,
        stuck_after=Number.HIGH,
    )

    values = vars_of(task.options)
    kinds = {name: type(values[name]) for name in ("on_lost", "backoff", "on_conflict", "queue")}
    assert set(kinds.values()) == {str}
    assert {type(values[name]) for name in ("max_attempts", "priority", "stuck_after")} == {int}
    assert type(task.overrides["backoff"]) is str


def vars_of(options: Options) -> dict[str, Any]:
    return {name: getattr(options, name) for name in Options.__dataclass_fields__}


# Options in a row, and their use.


def test_what_using_changes_stands_in_overrides_as_json_and_only_that() -> None:
    task = declare(max_attempts=3, timeout=9).using(backoff="linear").using(timeout=4, priority=3)

    assert json.loads(json.dumps(task.overrides)) == {"backoff": "linear", "timeout": 4}
    assert declare(max_attempts=3, timeout=9).overrides == {}


def restore(task: Task[..., Any], fired: Task[..., Any]) -> Task[..., Any]:
    """Claim the row of `fired` in a process that declares `task`."""
    overrides = json.loads(json.dumps(fired.overrides))
    return task.restored(overrides, fired.on_lost, fired.stuck_after, fired.max_attempts)


@pytest.mark.parametrize("declared", [{}, {"on_lost": "rerun"}, {"max_attempts": 3}, {"max_attempts": 5}])
@pytest.mark.parametrize(
    "using",
    [
        {},
        {"on_lost": "rerun"},
        {"on_lost": "fail"},
        {"max_attempts": 3},
        {"max_attempts": None},
        {"max_attempts": 3, "on_lost": "rerun"},
        {"max_attempts": None, "on_lost": "rerun"},
        {"timeout": 5, "soft_timeout": 2.5, "stuck_after": 9},
        {"max_attempts": 4, "backoff": "linear", "backoff_first": 2, "backoff_cap": 5, "backoff_jitter": False},
    ],
    ids=str,
)
def test_a_claim_knows_what_it_was_fired_with(declared: dict[str, Any], using: dict[str, Any]) -> None:
    """Above all, only a given `max_attempts` allows another attempt after an exception."""
    task = declare(**declared)
    fired = task.using(**using)

    restored = restore(task, fired)

    assert restored.options == fired.options
    assert (restored.max_attempts, restored.has_timeouts) == (fired.max_attempts, fired.has_timeouts)


def test_a_claim_of_a_row_with_nothing_of_its_own_makes_no_other_task() -> None:
    for options in ({}, {"on_lost": "rerun"}, {"max_attempts": 5, "timeout": 3}):
        task = declare(**options)
        assert restore(task, task) is task


def test_a_release_that_declares_otherwise_runs_what_an_older_one_fired() -> None:
    """Options that contradict the new declaration are no error, which would lose the task at a deploy."""
    fired = declare(max_attempts=3, soft_timeout=2).using(timeout=5, backoff_first=2, backoff_cap=3)

    for newer in (
        declare(),
        declare(soft_timeout=6),
        declare(max_attempts=9, backoff=lambda attempt, error: 1.0),
        declare(max_attempts=9, backoff_first=4, backoff_cap=5),
        bgtasks.task(name="p")(plain),
    ):
        restored = restore(newer, fired)
        assert restored.max_attempts == 3
        assert restored.options.timeout == (5 if restored.is_async else None)


def test_an_option_of_a_later_release_is_left_out() -> None:
    assert declare().restored({"of_2031": 1, "timeout": 3}, "fail", None, 1).options.timeout == 3


@pytest.mark.parametrize(
    "overrides", [{"timeout": "5"}, {"backoff": "never"}, {"backoff_first": None}, {"max_attempts": 0}]
)
def test_what_anybody_may_have_written_is_checked(overrides: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        declare().restored(overrides, "fail", None, 0)


CHECKED: dict[str, Callable[[str, object], Any]] = {
    name: check for name, check in _CHECKS.items() if name not in ("retry_on", "give_up_on")
}
ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.datetimes(),
    st.datetimes(timezones=st.timezones()),
    st.timedeltas(),
    st.decimals(),
    st.lists(st.integers()),
)


@given(st.sampled_from(sorted(CHECKED)), ANYTHING)
def test_whatever_is_given_is_taken_or_refused_by_name(option: str, value: object) -> None:
    try:
        taken = CHECKED[option](option, value)
    except (TypeError, ValueError) as error:
        named = str(error)
    else:
        named = option
        assert not isinstance(taken, float) or math.isfinite(taken)
        assert option not in STORED_OPTIONS or json.loads(json.dumps(taken)) == taken
    assert named.startswith(option)
