"""Sensitive arguments: their encryption, its keys, and the removal of their values from texts."""

from __future__ import annotations

import inspect
import json
import logging
import sys
from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

import bgtasks
from bgtasks.definition import declared
from bgtasks.definition.sensitive import HIDDEN, MARK, hide_values, is_sealed, seal, unseal
from bgtasks.failure import MAX_MESSAGE, describe
from bgtasks.log import log
from bgtasks.runtime import firing
from bgtasks.testing import arun_fired, assert_fired, assert_not_fired, fired

SECRET = "hunter2-hunter2"


async def login(user_id: int, token: str, *codes: str, remember: bool = False, **options: Any) -> str:
    return token


SIGNATURE = inspect.signature(login)


# The option.


@pytest.mark.parametrize(
    ("sensitive", "error", "match"),
    [
        (("password",), ValueError, "no parameter of .*login .*There are: user_id, token, codes, remember, options"),
        ("token", TypeError, "tuple of names"),
        ((5,), TypeError, "tuple of names"),
    ],
)
def test_it_names_parameters(sensitive: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        bgtasks.task(name="login", sensitive=sensitive)(login)

    assert "login" not in declared


def test_a_function_without_parameters_has_none() -> None:
    async def nothing() -> None: ...

    with pytest.raises(ValueError, match="It has none"):
        bgtasks.task(name="nothing", sensitive=["token"])(nothing)


def test_without_the_package_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.fernet", None)

    with pytest.raises(ImproperlyConfigured, match=r'pip install "bgtasks\[sensitive\]"'):
        bgtasks.task(name="login", sensitive=["token"])(login)
    assert bgtasks.task(name="login")(login).sensitive == ()


def test_it_is_declared_with_the_function_only() -> None:
    with pytest.raises(TypeError, match="declare it with the function"):
        bgtasks.task(name="login")(login).using(sensitive=["token"])  # type: ignore[call-arg]


def test_without_the_option_nothing_is_encrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(firing, "seal", refuse)

    bgtasks.fire(bgtasks.task(name="plain")(login), 5, {MARK: SECRET})

    assert fired[0].args[1] == {MARK: SECRET}  # A value that only looks encrypted stays unchanged.


# Encryption.


@pytest.mark.parametrize(
    ("names", "args", "kwargs", "sealed"),
    [
        ({"token"}, [5, SECRET], {}, {1}),
        ({"token"}, [5], {"token": SECRET, "remember": True}, {"token"}),
        ({"codes"}, [5, "a", SECRET, SECRET], {}, {2, 3}),
        ({"options"}, [5, "a"], {"remember": True, "pin": SECRET, "options": [1]}, {"pin", "options"}),
        ({"token", "user_id"}, [5, {"nested": [SECRET, None, 1.5]}], {}, {0, 1}),
        ({"token"}, [5, None], {}, {1}),
    ],
    ids=["position", "name", "more", "options", "nested", "none"],
)
def test_the_named_are_encrypted_and_come_back(names: Any, args: Any, kwargs: Any, sealed: Any) -> None:
    found_args, found_kwargs = seal(names, SIGNATURE, args, kwargs)

    everything = {**dict(enumerate(found_args)), **found_kwargs}
    assert {key for key, value in everything.items() if is_sealed(value)} == sealed
    assert SECRET not in json.dumps([found_args, found_kwargs])
    assert unseal(SIGNATURE, found_args, found_kwargs)[:2] == (args, kwargs)


def test_what_only_looks_encrypted_comes_back_as_it_was() -> None:
    args = [{MARK: "no token of ours"}, SECRET]

    assert unseal(SIGNATURE, *seal({"token"}, SIGNATURE, args, {}))[0] == args


def test_the_same_value_looks_different_each_time() -> None:
    assert seal({"token"}, SIGNATURE, [5, "a"], {}) != seal({"token"}, SIGNATURE, [5, "a"], {})


# Keys.


def test_a_key_may_be_rotated(settings: Any) -> None:
    settings.SECRET_KEY = "the first"
    old = seal({"token"}, SIGNATURE, [5, SECRET], {})
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "the second", ["another", "the first"]

    new = seal({"token"}, SIGNATURE, [5, SECRET], {})

    assert unseal(SIGNATURE, *old)[0] == unseal(SIGNATURE, *new)[0] == [5, SECRET]
    settings.SECRET_KEY_FALLBACKS = []
    assert unseal(SIGNATURE, *new)[0] == [5, SECRET]


@pytest.mark.parametrize("damage", [lambda token: token, lambda token: token[:-4], lambda token: "é", lambda token: ""])
def test_what_cannot_be_decrypted_is_named(settings: Any, damage: Callable[[str], str]) -> None:
    _, kwargs = seal({"token"}, SIGNATURE, [], {"token": SECRET})
    token = damage(kwargs["token"][MARK])
    settings.SECRET_KEY = "another"

    with pytest.raises(ValueError, match=r"'token' cannot be decrypted.*SECRET_KEY_FALLBACKS") as caught:
        unseal(SIGNATURE, [], {"token": {MARK: token}})

    assert not token or token not in str(caught.value)
    assert caught.value.__cause__ is None


# Texts.


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (SECRET, f"no {SECRET} here"),
        ({"pin": [SECRET]}, f"{SECRET}, {SECRET}"),
        ("quo\"te'd", repr(KeyError("quo\"te'd"))),
        ("línea", json.dumps(["línea"])),
        ("tab\there", repr("tab\there")),
        ("first line\nsecond line", "  | first line\n  | second line\n"),
    ],
    ids=["plain", "nested", "repr", "json", "escaped", "lines"],
)
def test_values_are_taken_out_of_texts(value: Any, text: str) -> None:
    hidden = hide_values([value])(text)

    assert HIDDEN in hidden
    for part in (SECRET, "quo", "línea", "nea", "tab", "first line", "second line"):
        assert part not in hidden


def test_short_values_and_other_kinds_stay() -> None:
    assert hide_values(["abc", 1234, None, True])("abc 1234 None True") == "abc 1234 None True"


def test_what_stands_for_a_value_is_not_replaced_in_turn() -> None:
    assert hide_values(["sens", "sensible", "x" * 5])("sensible xxxxx") == f"{HIDDEN} {HIDDEN}"


def test_a_value_is_hidden_before_a_message_is_cut() -> None:
    """Half a secret at the cut would not match."""
    error = ValueError("x" * (MAX_MESSAGE // 2 - 5) + SECRET + "y" * MAX_MESSAGE)

    message = describe(error, None, hide_values([SECRET])).message

    assert "hunt" not in message


def test_a_hidden_error_is_logged_without_the_exception(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "bgtasks"):
        log(logging.ERROR, "It %s", "failed", exc_info=ValueError(SECRET), hide=hide_values([SECRET]))

    [record] = caplog.records
    assert record.exc_info is None
    assert record.getMessage() == f"It failed\nValueError: {HIDDEN}\n"


# Tests of the project.


async def test_a_test_sees_the_values_and_no_text_does() -> None:
    @bgtasks.task(name="login", sensitive=("token", "options"))
    async def login(user_id: int, token: str, **options: Any) -> str:
        return token

    handle = bgtasks.fire(login, 5, SECRET, pin=SECRET)
    [item] = fired

    assert item.args == (5, SECRET)
    assert item.arguments == {"user_id": 5, "token": SECRET, "pin": SECRET}
    assert repr(item) == "<FiredTask login(user_id=5, token=[sensitive], pin=[sensitive]) READY>"
    assert SECRET not in f"{handle!r} {handle._record!r} {fired!r} {login!r}"
    assert assert_fired(login, 5, token=SECRET) is item
    for check, given in ((assert_fired, "wrong-one"), (assert_not_fired, SECRET)):
        with pytest.raises(AssertionError) as caught:
            check(login, 5, token=given)
        assert given not in str(caught.value)
        assert SECRET not in str(caught.value)
    await arun_fired()
    assert await handle == SECRET


async def test_a_test_gets_what_the_task_raised() -> None:
    @bgtasks.task(name="login", sensitive=("token",), max_attempts=2, backoff_first=0.01)
    async def login(token: str) -> None:
        raise ValueError(token)

    bgtasks.fire(login, SECRET)

    with pytest.raises(ValueError, match=SECRET):
        await arun_fired()
