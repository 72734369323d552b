from __future__ import annotations

import functools
from typing import Any

import pytest

import bgtasks
from bgtasks.definition import Task, declared


async def plain_coroutine(a: int, b: int = 2) -> int:
    return a + b


def test_with_and_without_arguments() -> None:
    bare = bgtasks.task(plain_coroutine)
    named = bgtasks.task(name="other", on_lost="rerun", stuck_after=5)(plain_coroutine)

    assert (bare.name, bare.on_lost, bare.stuck_after, bare.max_attempts) == (
        f"{__name__}.plain_coroutine",
        "fail",
        None,
        1,
    )
    assert (named.name, named.on_lost, named.stuck_after, named.max_attempts) == ("other", "rerun", 5, 3)
    assert declared["other"] is named


async def test_calling_it_calls_the_function() -> None:
    assert await bgtasks.task(name="called")(plain_coroutine)(1, b=3) == 4


def test_using_leaves_the_original_alone() -> None:
    task = bgtasks.task(name="original")(plain_coroutine)

    other = task.using(on_lost="rerun", stuck_after=1.5)

    assert (other.on_lost, other.stuck_after, other.max_attempts, other.name) == ("rerun", 1.5, 3, "original")
    assert (task.on_lost, task.stuck_after) == ("fail", None)
    assert declared["original"] is task


def test_two_functions_under_one_name_are_both_named() -> None:
    bgtasks.task(name="twice")(plain_coroutine)

    def another() -> None: ...

    with pytest.raises(ValueError, match="twice") as caught:
        bgtasks.task(name="twice")(another)
    assert "plain_coroutine" in str(caught.value)
    assert "another" in str(caught.value)
    assert str(caught.value).count("test_definition.py:") == 2


def test_a_module_that_is_loaded_anew_declares_the_same_again() -> None:
    def make() -> Task[Any, Any]:
        @bgtasks.task(name="reloaded")
        async def inner() -> None: ...

        return inner

    make()
    assert declared["reloaded"] is not make() or declared["reloaded"].name == "reloaded"


@pytest.mark.parametrize(
    ("wrong", "error", "match"),
    [
        (lambda: bgtasks.task(name="")(plain_coroutine), ValueError, "1 to 200"),
        (lambda: bgtasks.task(name="x" * 201)(plain_coroutine), ValueError, "201"),
        (lambda: bgtasks.task(name="a\0b")(plain_coroutine), ValueError, "printable"),
        (lambda: bgtasks.task(name="\ud800")(plain_coroutine), ValueError, "printable"),
        (lambda: bgtasks.task(name=5)(plain_coroutine), TypeError, "string"),
        (lambda: bgtasks.task(on_lost="again")(plain_coroutine), ValueError, "rerun"),
        (lambda: bgtasks.task(stuck_after=0)(plain_coroutine), ValueError, "greater than 0"),
        (lambda: bgtasks.task(stuck_after=float("nan"))(plain_coroutine), ValueError, "greater than 0"),
        (lambda: bgtasks.task(stuck_after="5")(plain_coroutine), TypeError, "number of seconds"),
        (lambda: bgtasks.task(stuck_after=True)(plain_coroutine), TypeError, "number of seconds"),
        (lambda: bgtasks.task("name"), TypeError, "by its name"),
        (lambda: bgtasks.task(int), TypeError, "function"),
        (lambda: bgtasks.task(name="p")(functools.partial(plain_coroutine, 1)), TypeError, "function"),
        (lambda: bgtasks.task(bgtasks.task(name="once")(plain_coroutine)), TypeError, "already"),
        (lambda: bgtasks.task(generator), TypeError, "generator"),
        (lambda: bgtasks.task(async_generator), TypeError, "generator"),
        (lambda: bgtasks.task(name="u")(plain_coroutine).using(keys="k"), TypeError, "'key'"),
        (lambda: bgtasks.task(name="v")(plain_coroutine).using(on_lost="never"), ValueError, "rerun"),
    ],
)
def test_misuse_is_refused_at_decoration(wrong: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        wrong()


def generator():
    yield


async def async_generator():
    yield
