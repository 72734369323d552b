"""Names that a function had before, its signature's fingerprint, and the steps from one version to the next."""

from __future__ import annotations

from typing import Any

import pytest

import bgtasks
from bgtasks.checks import check_task_functions
from bgtasks.definition import declared


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


def test_a_check_tells_of_a_function_once() -> None:
    @bgtasks.task(name="inner", aliases=["old inner"])
    async def inner() -> None: ...

    assert ["inner" in warning.msg for warning in check_task_functions(None) if "inner" in warning.msg] == [True]
