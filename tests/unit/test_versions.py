"""Former names of a function, the fingerprint of its signature, and the steps between its versions."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

import bgtasks
from bgtasks.checks import check_task_functions
from bgtasks.definition import declared
from bgtasks.definition.parameters import find_misfits, fingerprint
from bgtasks.definition.versions import MAX_VERSION, describe_misfit, upgrade, version_of


async def send(user_id: int) -> None: ...


async def another(user_id: int) -> None: ...


# Aliases.


def test_an_alias_stands_beside_the_name() -> None:
    task = bgtasks.task(name="new.path", aliases=["old.path", "older.path"])(send)

    assert task.names == ("new.path", "old.path", "older.path")
    assert [declared[name] for name in task.names] == [task] * 3


@pytest.mark.parametrize(
    ("first", "second", "taken"),
    [
        ({"name": "a"}, {"name": "b", "aliases": ["a"]}, "a"),
        ({"name": "a", "aliases": ["b"]}, {"name": "b"}, "b"),
        ({"name": "a", "aliases": ["c"]}, {"name": "b", "aliases": ["c"]}, "c"),
    ],
    ids=["alias is a name", "name is an alias", "alias is an alias"],
)
def test_one_name_for_two_functions_is_refused(first: Any, second: Any, taken: str) -> None:
    bgtasks.task(**first)(send)

    with pytest.raises(ValueError, match=f"called '{taken}'") as caught:
        bgtasks.task(**second)(another)

    assert "test_versions.send (" in str(caught.value)
    assert "test_versions.another (" in str(caught.value)
    assert "aliases" in str(caught.value)
    assert "b" not in declared or declared["b"].func is send


@pytest.mark.parametrize(
    ("aliases", "error", "match"),
    [
        ("old.path", TypeError, "list or tuple of names"),
        ([5], TypeError, "list or tuple of names"),
        ([""], ValueError, "1 to 200"),
        (["a\0b"], ValueError, "printable"),
    ],
)
def test_aliases_are_names(aliases: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        bgtasks.task(name="named", aliases=aliases)(send)

    assert "named" not in declared


def test_aliases_are_declared_with_the_function_only() -> None:
    with pytest.raises(TypeError, match="declare it with the function"):
        bgtasks.task(name="named")(send).using(aliases=["other"])  # type: ignore[call-arg]


def test_a_check_reports_a_function_once() -> None:
    @bgtasks.task(name="inner", aliases=["old inner"])
    async def inner() -> None: ...

    assert ["inner" in warning.msg for warning in check_task_functions(None) if "inner" in warning.msg] == [True]


# Fingerprints.


def sign(function: Callable[..., Any], version: int = 1) -> str:
    return fingerprint(inspect.signature(function), version)


@pytest.mark.parametrize(
    "other",
    [
        lambda a, c=1: None,
        lambda b, a=1: None,
        lambda a, b: None,
        lambda a, *, b=1: None,
        lambda a, b=1, *c: None,
        lambda a: None,
    ],
    ids=["name", "order", "default", "kind", "more", "less"],
)
def test_another_signature_has_another_fingerprint(other: Callable[..., Any]) -> None:
    assert sign(other) != sign(lambda a, b=1: None)


def test_annotations_and_values_of_defaults_do_not_matter() -> None:
    def annotated(a: int, b: str = "x") -> None: ...

    assert sign(annotated) == sign(lambda a, b=1: None)


@pytest.mark.parametrize("version", [1, 2, 10, MAX_VERSION])
def test_a_fingerprint_holds_its_version(version: int) -> None:
    found = sign(send, version)

    assert len(found) == 16
    assert version_of(found) == version


@pytest.mark.parametrize("written", ["", "0123456789abcdef", ":", "x:1", "²:1", "-2:1"])
def test_without_a_version_it_is_of_version_1(written: str) -> None:
    assert version_of(written) == 1


def test_all_of_a_function_share_one_fingerprint() -> None:
    task = bgtasks.task(name="shared", version=3)(send)

    assert "signature_fingerprint" in vars(task.using(on_lost="rerun"))  # Not computed again for each firing.
    assert version_of(task.using(on_lost="rerun").signature_fingerprint) == 3


@pytest.mark.parametrize(
    ("version", "error"), [(0, ValueError), (-1, ValueError), (MAX_VERSION + 1, ValueError), ("2", TypeError)]
)
def test_a_version_is_a_number_from_1(version: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="version must be"):
        bgtasks.task(name="versioned", version=version)(send)


# Arguments that do not fit.


@pytest.mark.parametrize(
    ("args", "names", "missing", "unexpected"),
    [
        ([], [], ["a", "c"], []),
        ([1], ["c"], [], []),
        ([1, 2], ["c"], [], []),
        ([1, 2, 3], ["c"], [], ["1 more by position"]),
        ([1], ["a", "c"], [], ["a"]),
        ([1], ["c", "d", "e"], [], ["d", "e"]),
        ([], ["a", "b"], ["c"], []),
    ],
)
def test_what_is_missing_and_what_is_unexpected(args: Any, names: Any, missing: Any, unexpected: Any) -> None:
    def function(a: Any, b: Any = 1, *, c: Any) -> None: ...

    assert find_misfits(inspect.signature(function), args, names) == (missing, unexpected)


def test_what_takes_anything_misses_nothing() -> None:
    assert find_misfits(inspect.signature(lambda *args, **kwargs: None), [1, 2], ["a", "args"]) == ([], [])


def test_a_positional_parameter_is_not_given_by_its_name() -> None:
    def function(a: Any, /) -> None: ...

    assert find_misfits(inspect.signature(function), [], ["a"]) == (["a"], ["a"])


def test_a_misfit_is_reported_with_both_signatures() -> None:
    text = describe_misfit(inspect.signature(send), [], {"gone": 1}, "1:aaaaaaaaaaaaaa", "2:bbbbbbbbbbbbbb", "2026.1")

    assert text == (
        "Missing: user_id. Unexpected: gone. It was fired with version 1 (signature 1:aaaaaaaaaaaaaa) by release "
        "2026.1; here the function has version 2 (signature 2:bbbbbbbbbbbbbb)."
    )


def test_a_misfit_of_an_old_row_with_many_names_is_short() -> None:
    text = describe_misfit(inspect.signature(send), [1], {f"a{n}": n for n in range(500)}, "", "1:bbbbbbbbbbbbbb", "")

    assert "a9, 490 more. It was fired with a signature that was not recorded; here" in text


# Steps.


def test_steps_are_declared_for_older_versions() -> None:
    task = bgtasks.task(name="stepped", version=3)(send)

    @task.migrate(from_version=1)
    def first(args: list[Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        return args, kwargs

    assert task.steps == {1: first}
    assert task.using(on_lost="rerun").steps == {1: first}
    assert first([1], {}) == ([1], {})


async def wrong(args: list[Any], kwargs: dict[str, Any]) -> Any: ...


@pytest.mark.parametrize(
    ("from_version", "step", "error", "match"),
    [
        (2, lambda args, kwargs: (args, kwargs), ValueError, "less than the version of stepped, which is 2, not 2"),
        (5, lambda args, kwargs: (args, kwargs), ValueError, "not 5"),
        (0, lambda args, kwargs: (args, kwargs), ValueError, "not 0"),
        ("1", lambda args, kwargs: (args, kwargs), TypeError, "whole number"),
        (True, lambda args, kwargs: (args, kwargs), TypeError, "whole number"),
        (1, wrong, TypeError, "plain function"),
        (1, None, TypeError, "plain function"),
    ],
)
def test_misuse_of_migrate_is_refused(from_version: Any, step: Any, error: type[Exception], match: str) -> None:
    task = bgtasks.task(name="stepped", version=2)(send)

    with pytest.raises(error, match=match):
        task.migrate(from_version=from_version)(step)

    assert task.steps == {}


def test_two_steps_from_one_version_are_refused() -> None:
    task = bgtasks.task(name="stepped", version=2)(send)
    task.migrate(from_version=1)(lambda args, kwargs: (args, kwargs))

    with pytest.raises(ValueError, match="two steps from version 1"):
        task.migrate(from_version=1)(lambda args, kwargs: (args, kwargs))


def test_steps_are_taken_in_their_order() -> None:
    steps: Any = {
        1: lambda args, kwargs: ([*args, "one"], kwargs),
        2: lambda args, kwargs: ((*args, "two"), {**kwargs, "more": True}),
    }

    assert upgrade(steps, 1, 3, ["a"], {}) == (["a", "one", "two"], {"more": True})
    assert upgrade(steps, 2, 3, ["a"], {}) == (["a", "two"], {"more": True})
    assert upgrade({}, 3, 3, ["a"], {}) == (["a"], {})


def raise_it(error: BaseException) -> Any:
    raise error


@pytest.mark.parametrize(
    ("step", "match"),
    [
        (None, r"no @….migrate\(from_version=2\) is declared"),
        (lambda args, kwargs: raise_it(KeyError("user")), "raised KeyError: 'user'"),
        (lambda args, kwargs: raise_it(SystemExit(1)), "raised SystemExit"),
        (lambda args, kwargs: None, "returned a NoneType"),
        (lambda args, kwargs: [args, kwargs], "returned a list"),
        (lambda args, kwargs: (args,), "returned a tuple"),
        (lambda args, kwargs: (kwargs, args), "returned a tuple"),
        (lambda args, kwargs: (args, {1: 2}), "returned a tuple"),
    ],
)
def test_a_step_that_fails_is_reported(step: Any, match: str) -> None:
    steps: Any = {1: lambda args, kwargs: (args, kwargs)} | ({2: step} if step else {})

    with pytest.raises(ValueError, match=match) as caught:
        upgrade(steps, 1, 3, [], {})

    assert "of version 1, the function is of version 3" in str(caught.value)
