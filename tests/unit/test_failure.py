from __future__ import annotations

import asyncio

import pytest

from bgtasks.failure import MAX_MESSAGE, MAX_TRACEBACK, Failure, describe, storable


def caught(error: BaseException) -> Failure:
    try:
        raise error
    except BaseException as found:  # noqa: BLE001, RUF100
        return describe(found, found.__traceback__)


class StrRaises(Exception):
    def __str__(self) -> str:
        raise SystemExit("from __str__")


class StrIsNoString(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]


Nameless = type("é" + "x" * 10_000, (Exception,), {"__module__": None})


@pytest.mark.parametrize(
    "error",
    [
        StrRaises(),
        StrIsNoString(),
        Nameless("message"),
        ValueError("x" * 10_000_000),
        ValueError("NUL \0 and \ud800"),
        ExceptionGroup("group", [ValueError("one"), ExceptionGroup("inner", [KeyError("two")])]),
        BaseExceptionGroup("group", [SystemExit(1)]),
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit(),
        asyncio.CancelledError(),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        RecursionError(),
    ],
    ids=lambda error: type(error).__name__[-20:].strip("\0"),
)
def test_every_exception_becomes_text_that_can_be_stored(error: BaseException) -> None:
    failure = caught(error)
    for part in (failure.type, failure.message, failure.traceback):
        assert "\0" not in part
        part.encode()
    assert 0 < len(failure.type) <= 200
    assert len(failure.message) <= MAX_MESSAGE * 2
    assert len(failure.traceback) <= MAX_TRACEBACK * 2
    assert "test_failure.py" in failure.traceback
    assert len(failure.fingerprint) == 16


def test_a_str_that_raises_is_named() -> None:
    assert caught(StrRaises()).message == "<its str() raised SystemExit>"


def test_a_long_message_keeps_both_ends() -> None:
    message = caught(ValueError("begin" + "x" * 10**6 + "end")).message
    assert message.startswith("begin")
    assert message.endswith("end")
    assert "characters left out" in message


def test_a_group_shows_its_members() -> None:
    failure = caught(ExceptionGroup("group", [ValueError("one"), KeyError("two")]))
    assert "ValueError: one" in failure.traceback
    assert "KeyError: 'two'" in failure.traceback


def test_a_cause_is_kept() -> None:
    error = ValueError("effect")
    error.__cause__ = KeyError("cause")
    assert "KeyError: 'cause'" in caught(error).traceback


def test_the_fingerprint_is_of_type_and_place() -> None:
    def here(error: Exception) -> str:
        return caught(error).fingerprint

    assert here(ValueError("1")) == here(ValueError("2"))
    assert here(ValueError("1")) != here(KeyError("1"))

    def elsewhere() -> str:
        try:
            raise ValueError
        except ValueError as error:
            return describe(error, error.__traceback__).fingerprint

    assert here(ValueError()) != elsewhere()


def test_storable_leaves_good_text_alone() -> None:
    assert storable("Grüße 😀\n") == "Grüße 😀\n"
