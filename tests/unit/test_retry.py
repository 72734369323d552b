"""Whether another attempt follows, and when."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bgtasks
from bgtasks.definition import Task
from bgtasks.definition.options import LONGEST_DELAY
from bgtasks.definition.retry import find_delay, find_wait
from bgtasks.retry_after import find_retry_after, parse_retry_after

LONGEST = LONGEST_DELAY.total_seconds()
ATTEMPTS = st.integers(1, 999)
SECONDS = st.floats(0.001, 1e6)


async def coroutine() -> None: ...


def declare(**options: Any) -> Task[..., Any]:
    return Task(coroutine, name="declared", **{"max_attempts": 1000, **options})


def delay_of(task: Task[..., Any], attempt: int = 1, error: BaseException | None = None) -> float:
    delay = find_delay(task, attempt, error or ValueError("no"))
    assert delay is not None
    return delay


def refusal(status: int = 429, **headers: str) -> httpx.HTTPStatusError:
    """Return the exception of httpx for a status code."""
    request = httpx.Request("GET", "https://api.example/")
    answer = httpx.Response(status, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer.request = request
    with pytest.raises(httpx.HTTPStatusError) as caught:
        answer.raise_for_status()
    return caught.value


# The growth of the wait.


@pytest.mark.parametrize(
    ("growth", "expected"),
    [
        ("exponential", [2, 4, 8, 16, 32, 60, 60]),
        ("linear", [2, 4, 6, 8, 10, 12, 14]),
        ("constant", [2, 2, 2, 2, 2, 2, 2]),
    ],
)
def test_growth(growth: Any, expected: list[float]) -> None:
    task = declare(backoff=growth, backoff_first=2, backoff_cap=60, backoff_jitter=False)

    assert [delay_of(task, attempt) for attempt in range(1, 8)] == expected


@pytest.mark.parametrize(
    ("growth", "first", "cap", "expected"),
    [
        ("exponential", 0.1, 60, [0.1, 0.2, 0.4, 6.4, 51.2, 60, 60, 60]),
        ("exponential", 1, 600, [1, 2, 4, 64, 512, 600, 600, 600]),
        ("exponential", 7.3, 1000, [7.3, 14.6, 29.2, 467.2, 1000, 1000, 1000, 1000]),
        (
            "exponential",
            1e-300,
            1000,
            [1e-300, 2e-300, 4e-300, 6.4e-299, 5.12e-298, 1.024e-297, 6.338253001141147e-271, 5.357543035931337],
        ),
        ("linear", 0.1, 60, [0.1, 0.2, 0.30000000000000004, 0.7000000000000001, 1.0, 1.1, 10.0, 60]),
        ("linear", 1, 600, [1, 2, 3, 7, 10, 11, 100, 600]),
        ("linear", 7.3, 1000, [7.3, 14.6, 21.9, 51.099999999999994, 73.0, 80.3, 729.9999999999999, 1000]),
        ("constant", 7.3, 1000, [7.3] * 8),
    ],
)
def test_waits_to_the_last_digit(growth: Any, first: float, cap: float, expected: list[float]) -> None:
    assert [find_wait(growth, first, cap, attempt) for attempt in (1, 2, 3, 7, 10, 11, 100, 1000)] == expected


@given(SECONDS, SECONDS, st.integers(1, 1000))
def test_waits_are_the_exact_products(first: float, cap: float, attempt: int) -> None:
    doubled = min(Fraction(first) * 2 ** (attempt - 1), Fraction(cap))
    multiplied = min(Fraction(first) * attempt, Fraction(cap))

    assert find_wait("exponential", first, cap, attempt) == doubled
    assert find_wait("linear", first, cap, attempt) == pytest.approx(float(multiplied), rel=1e-15)
    assert find_wait("constant", first, cap, attempt) == first


@pytest.mark.parametrize("attempt", [1023, 1024, 1025, 1026, 5000, 10**6, 10**12])
def test_waits_of_huge_attempts_are_the_cap(attempt: int) -> None:
    for first, cap in ((1, 600), (0.001, 0.5), (1e6, LONGEST), (LONGEST, LONGEST)):
        assert find_wait("exponential", first, cap, attempt) == cap
        assert find_wait("linear", first, cap, attempt) == cap


def test_jitter_is_one_uniform_draw_up_to_the_wait() -> None:
    task = declare(backoff_first=2)
    state = random.getstate()
    expected = [random.uniform(0, longest) for longest in (2, 4, 8)]

    random.setstate(state)

    assert [delay_of(task, attempt) for attempt in (1, 2, 3)] == expected


@given(st.sampled_from(["exponential", "linear", "constant"]), SECONDS, SECONDS, ATTEMPTS)
def test_waits_are_within_bounds_and_never_shrink(growth: Any, one: float, other: float, attempt: int) -> None:
    first, cap = sorted([one, other])
    exact = declare(backoff=growth, backoff_first=first, backoff_cap=cap, backoff_jitter=False)
    drawn = exact.using(backoff_jitter=True)

    longest = delay_of(exact, attempt)

    assert delay_of(exact, 1) == pytest.approx(first)
    assert first * (1 - 1e-9) <= longest <= cap * (1 + 1e-9)
    assert attempt == 1 or delay_of(exact, attempt - 1) <= longest
    assert all(0 <= delay_of(drawn, attempt) <= longest for _ in range(5))


def test_jitter_covers_all_of_the_wait() -> None:
    task = declare(backoff="constant", backoff_first=100)

    drawn = [delay_of(task) for _ in range(500)]

    assert min(drawn) < 20
    assert max(drawn) > 80
    assert 35 < sum(drawn) / len(drawn) < 65


# A function as backoff.


def test_a_function_is_asked_with_the_attempt_and_what_it_raised() -> None:
    asked: list[Any] = []
    error = ValueError("no")

    def backoff(attempt: int, raised: BaseException) -> float:
        asked.append((attempt, raised))
        return 7

    assert delay_of(declare(backoff=backoff), 3, error) == 7
    assert asked == [(3, error)]


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf, -0.001, None, "soon", [1], 10**400, 1j])
def test_a_function_that_returns_no_seconds_ends_the_task_with_what_it_raised(
    wrong: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert find_delay(declare(backoff=lambda attempt, error: wrong), 1, ValueError("no")) is None
    assert "backoff of task declared failed" in caplog.text


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt, StopIteration])
def test_a_function_that_raises_hides_nothing(kind: type[BaseException], caplog: pytest.LogCaptureFixture) -> None:
    def backoff(attempt: int, error: BaseException) -> float:
        raise kind("mine")

    assert find_delay(declare(backoff=backoff), 1, ValueError("no")) is None
    assert "backoff of task declared failed" in caplog.text


@given(st.floats() | st.integers() | st.booleans() | st.fractions() | st.decimals())
def test_whatever_a_function_returns_the_wait_is_one_that_a_database_can_hold(returned: Any) -> None:
    delay = find_delay(declare(backoff=lambda attempt, error: returned), 1, ValueError("no"))

    assert delay is None or 0 <= delay <= LONGEST


# Errors worth a retry.


def test_without_max_attempts_nothing_raised_is_tried_again() -> None:
    for options in ({}, {"on_lost": "rerun"}):
        task = Task(coroutine, **options)
        assert find_delay(task, 1, ValueError("no")) is None
    assert find_delay(Task(coroutine, on_lost="rerun"), 1, bgtasks.Retry(after=5)) == 5
    assert find_delay(Task(coroutine), 1, bgtasks.Retry(after=5)) is None


@given(st.integers(1, 1000), st.integers(1, 1000))
def test_no_more_attempts_than_declared(most: int, attempt: int) -> None:
    task = declare(max_attempts=most)

    for error in (ValueError("no"), bgtasks.Retry(after=1), refusal(retry_after="1")):
        assert (find_delay(task, attempt, error) is None) == (attempt >= most)


class Passing(OSError): ...


class Lasting(Passing): ...


@pytest.mark.parametrize(
    ("options", "error", "is_tried"),
    [
        ({}, ValueError(), True),
        ({}, TimeoutError(), True),
        ({}, SystemExit(), False),
        ({}, KeyboardInterrupt(), False),
        ({"retry_on": OSError}, Passing(), True),
        ({"retry_on": OSError}, ValueError(), False),
        ({"retry_on": (OSError, ValueError)}, ValueError(), True),
        ({"retry_on": SystemExit}, SystemExit(), True),
        ({"give_up_on": Lasting}, Lasting(), False),
        ({"give_up_on": Lasting}, Passing(), True),
        ({"retry_on": Passing, "give_up_on": (Lasting, ValueError)}, Lasting(), False),
        ({"retry_on": (), "give_up_on": Exception}, ValueError(), False),
        ({"retry_on": (), "give_up_on": Exception}, bgtasks.Retry(), True),
    ],
)
def test_what_is_tried_again(options: dict[str, Any], error: BaseException, is_tried: bool) -> None:
    assert (find_delay(declare(**options), 1, error) is not None) is is_tried


# Retry.


@pytest.mark.parametrize(
    ("after", "seconds"),
    [
        (0, 0),
        (30, 30),
        (0.5, 0.5),
        (timedelta(minutes=1), 60),
        ("120", 120),
        (" 7 ", 7),
        ("-5", 0),
        (1e300, LONGEST),
        (10**400, LONGEST),
        (timedelta.max, LONGEST),
        ("9" * 30, LONGEST),
        (datetime(1999, 1, 1, tzinfo=UTC), 0),
        (datetime.max.replace(tzinfo=UTC), LONGEST),
        ("Fri, 01 Jan 1999 00:00:00 GMT", 0),
    ],
)
def test_retry_after(after: Any, seconds: float) -> None:
    assert delay_of(declare(backoff_first=9, backoff_jitter=False), 1, bgtasks.Retry(after=after)) == seconds


def test_retry_at_a_moment() -> None:
    moment = datetime.now(UTC) + timedelta(hours=1)

    for after in (moment, format_datetime(moment, usegmt=True)):
        assert 3590 < delay_of(declare(), 1, bgtasks.Retry(after=after)) <= 3600


@pytest.mark.parametrize(
    ("after", "error"),
    [
        (-1, ValueError),
        (math.nan, ValueError),
        (math.inf, ValueError),
        (timedelta(seconds=-1), ValueError),
        (datetime(2026, 1, 1), ValueError),  # noqa: DTZ001, RUF100  # The missing time zone is the point.
        ("soon", ValueError),
        ("", ValueError),
        ("nan", ValueError),
        ("inf", ValueError),
        ("9" * 400, ValueError),
        (True, TypeError),
        ([5], TypeError),
        (b"5", TypeError),
    ],
)
def test_a_wrong_retry_is_reported_where_it_is_raised(after: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        bgtasks.Retry(after=after)


def test_a_bare_retry_waits_as_the_backoff_says_and_not_before_the_server_does() -> None:
    task = declare(backoff="constant", backoff_first=5, backoff_jitter=False)
    retry = bgtasks.Retry()
    assert delay_of(task, 1, retry) == 5

    retry.__cause__ = refusal(retry_after="30")

    assert delay_of(task, 1, retry) == 30


# The wait that a server asks for.


def test_the_answer_of_a_server_is_heeded() -> None:
    task = declare(backoff="constant", backoff_first=5, backoff_jitter=False)

    assert delay_of(task, 1, refusal(503, retry_after="120")) == 120
    assert delay_of(task, 1, refusal(503, Retry_After="1")) == 5  # The longer one.
    assert delay_of(task, 1, refusal(503)) == 5
    assert delay_of(task, 1, refusal(503, retry_after="whenever")) == 5
    assert delay_of(task, 1, refusal(503, retry_after="9" * 30)) == LONGEST
    later = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    assert 3590 < delay_of(task, 1, refusal(503, retry_after=later)) <= 3600


def carrying(**attributes: Any) -> Exception:
    error = ValueError("carries something")
    vars(error).update(attributes)
    return error


@pytest.mark.parametrize(
    "error",
    [
        carrying(headers={"Retry-After": "4"}),  # As in aiohttp and urllib.
        carrying(headers={"retry-after": 4}),
        carrying(response=SimpleNamespace(headers={"Retry-After": "4"})),
        carrying(response=None, headers={"Retry-After": "4"}),
        carrying(response=SimpleNamespace(headers=None), headers={"Retry-After": "4"}),
    ],
)
def test_where_libraries_keep_the_answer(error: Exception) -> None:
    assert find_retry_after(error) == 4


class Hostile(Exception):
    """An error whose attributes are properties that raise, as those of a request that was never sent."""

    @property
    def response(self) -> Any:
        raise RuntimeError("There was none.")

    @property
    def headers(self) -> Any:
        raise RuntimeError("Nor these.")


@pytest.mark.parametrize(
    "error",
    [
        ValueError(),
        Hostile(),
        carrying(headers=5),
        carrying(headers=lambda: None),
        carrying(headers={"Retry-After": b"4"}),
        carrying(headers={"Retry-After": ["4"]}),
        carrying(response="no response"),
        httpx.ConnectError("refused"),
    ],
)
def test_what_is_no_answer_is_none(error: Exception) -> None:
    assert find_retry_after(error) is None
    assert delay_of(declare(backoff="constant", backoff_jitter=False), 1, error) == 1


@given(st.text())
def test_any_header_is_seconds_or_a_value_error(text: str) -> None:
    before = time.time()
    parse: Callable[[str], float] = parse_retry_after
    try:
        seconds = parse(text)
    except ValueError:
        seconds = 0.0

    assert 0 <= seconds < math.inf
    assert before  # `parse` has raised no other error.
