from __future__ import annotations

import itertools
import json
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgtasks.definition import arguments

text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(text, inner), max_leaves=20)


def encode(*args: Any, max_bytes: int = 10**6, **kwargs: Any) -> tuple[str, str]:
    return arguments.encode(args, kwargs, max_bytes, lambda index: f"parameter_{index}")


@given(st.lists(values, max_size=5), st.dictionaries(text, values, max_size=3))
def test_json_gives_back_what_it_was_given(args: list[Any], kwargs: dict[str, Any]) -> None:
    encoded = arguments.encode(tuple(args), kwargs, 10**9, str)
    assert arguments.decode(encoded[0]) == args
    assert arguments.decode(encoded[1]) == kwargs


@given(st.lists(st.one_of(scalars, st.floats(), st.text()), max_size=5))
def test_plain_arguments_can_be_encoded_and_are_the_same(args: list[Any]) -> None:
    """Arguments that pass the quick check also pass the thorough one."""
    if arguments.are_plain(tuple(args), {}, 100):
        assert arguments.encode_plain(tuple(args), {}) == arguments.encode(tuple(args), {}, 10**9, str)


@pytest.mark.parametrize(
    "value",
    [
        [1],
        {"a": 1},
        "x" * 101,
        "é",
        "a\0",
        2**63,
        float("nan"),
        float("inf"),
        (1,),
        date(2026, 1, 1),
        type("S", (str,), {})("x"),
    ],
)
def test_what_is_not_plain(value: object) -> None:
    assert not arguments.are_plain((value,), {}, 100)
    assert not arguments.are_plain((), {"a": value}, 100)
    assert not arguments.are_plain((1, "a", value), {}, 100)


def test_a_hostile_keyword_is_not_plain() -> None:
    assert not arguments.are_plain((), {"a\0": 1}, 100)
    with pytest.raises(ValueError, match="NUL"):
        encode(**{"a\0": 1})


def test_what_djangos_encoder_knows_is_accepted() -> None:
    encoded = encode(date(2026, 1, 2), datetime(2026, 1, 2, 3), Decimal("1.5"), UUID(int=5), (1, 2))
    assert json.loads(encoded[0])[0] == "2026-01-02"


def nest(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no")

    __str__ = __repr__


cycle: list[Any] = []
cycle.append(cycle)


@pytest.mark.parametrize(
    ("value", "error", "match"),
    [
        (object(), TypeError, "parameter_1.*is a object.*primary key"),
        (Unprintable(), TypeError, "Unprintable"),
        ({1, 2}, TypeError, "set"),
        (b"bytes", TypeError, "bytes"),
        ({(1, 2): 3}, TypeError, "keys"),
        (float("nan"), ValueError, "NaN"),
        ([float("inf")], ValueError, "infinity"),
        ("a\0b", ValueError, "NUL"),
        ({"a\0": 1}, ValueError, "NUL"),
        ("\ud800", ValueError, "surrogate"),
        (["ok", {"deep": "\udfff"}], ValueError, "surrogate"),
        (nest(31), ValueError, "deeper"),
        (nest(100_000), ValueError, "deeper"),
        (cycle, ValueError, "contains itself"),
        (10**5000, ValueError, "digits"),
    ],
    ids=itertools.count(),
)
def test_what_is_refused_names_the_parameter(value: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match) as caught:
        encode(1, value)
    assert "parameter_1" in str(caught.value)
    with pytest.raises(error, match="'keyword'"):
        encode(keyword=value)


def test_the_deepest_that_is_accepted() -> None:
    encode(nest(30))


@pytest.mark.parametrize("value", ["\\u0000", "\\ud800 as text", "😀", "\\\\u0000", "a\\", "\x7f\x1b"])
def test_text_that_only_looks_hostile(value: str) -> None:
    assert json.loads(encode(value)[0]) == [value]


def test_too_large_says_how_large() -> None:
    with pytest.raises(ValueError, match=r"10000006 bytes.*MAX_ARGS_BYTES"):
        encode("x" * 10_000_000, max_bytes=256 * 1024)
