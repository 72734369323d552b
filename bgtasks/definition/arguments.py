"""
Check the arguments of a task when it is fired, and encode them as JSON.

Most tasks take plain arguments: short scalars, which JSON holds unchanged. They are encoded later, on the journal's
thread. All other arguments are encoded at the call, and the task receives the decoded JSON: a list for a tuple, a
string for a date. So the first attempt gets the same values as a later one in another process.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from json.encoder import encode_basestring_ascii
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder

MAX_DEPTH = 30  # Levels. MariaDB refuses JSON of more than 31 levels, and the list of arguments is one of them.
MAX_PLAIN_COUNT = 16  # Arguments.
_MAX_INT = 2**63

Args = tuple[Any, ...]
Kwargs = dict[str, Any]


def are_plain(args: Args, kwargs: Kwargs, max_length: int) -> bool:
    """Return whether all arguments are plain: scalars that JSON holds unchanged, and texts of `max_length` at most."""
    if kwargs:
        if not are_plain(tuple(kwargs), {}, max_length):
            return False
        args += tuple(kwargs.values())
    if len(args) > MAX_PLAIN_COUNT:
        return False
    # One pass over exact types, since each `fire` comes here (0.1 µs for two scalars).
    for value in args:
        kind = type(value)
        if kind is str:
            if len(value) > max_length or not value.isascii() or "\0" in value:
                return False
        elif kind is int:
            if not -_MAX_INT < value < _MAX_INT:
                return False
        elif kind is float:
            if value - value != 0.0:  # NaN or an infinity, which JSON does not have.
                return False
        elif value is not None and kind is not bool:
            return False
    return True


# The encoders of plain arguments. They take a third of the time of `json.dumps`, which makes an encoder at each call.
_TEXTS: dict[type, Callable[[Any], str]] = {
    str: encode_basestring_ascii,
    int: int.__repr__,
    float: float.__repr__,
    bool: {True: "true", False: "false"}.__getitem__,
    type(None): {None: "null"}.__getitem__,
}


def encode_plain(args: Args, kwargs: Kwargs) -> tuple[str, str]:
    """
    Return plain arguments as two JSON texts, the same as `json.dumps` writes.

    >>> encode_plain((1, "a", 2.5, True, None), {"to": "b"})
    ('[1, "a", 2.5, true, null]', '{"to": "b"}')
    """
    text = f"[{', '.join([_TEXTS[type(value)](value) for value in args])}]"
    if not kwargs:
        return text, "{}"
    pairs = [f"{encode_basestring_ascii(name)}: {_TEXTS[type(value)](value)}" for name, value in kwargs.items()]
    return text, f"{{{', '.join(pairs)}}}"


def encode(args: Args, kwargs: Kwargs, max_bytes: int, name_of: Callable[[int], str]) -> tuple[str, str]:
    """
    Return the arguments as two JSON texts of ASCII characters.

    Args:
        max_bytes: the limit for the two texts together.
        name_of: returns the name of the positional parameter at an index, for the message of an error.

    Raises:
        TypeError: an argument has a type that JSON does not have.
        ValueError: JSON or a database cannot hold an argument (NaN, infinity, NUL, a lone surrogate, too many levels, a
            cycle), or the arguments are too large.
    """
    try:
        texts = _dump(args, MAX_DEPTH + 1), _dump(kwargs, MAX_DEPTH + 1)
    except (TypeError, ValueError, RecursionError):
        _raise_for_first_wrong(args, kwargs, name_of)
        raise
    size = len(texts[0]) + len(texts[1])
    if size > max_bytes:
        raise ValueError(
            f"its arguments take {size} bytes as JSON, more than MAX_ARGS_BYTES ({max_bytes}). "
            "Store the data and fire with its id."
        )
    return texts


def decode(text: str) -> Any:
    return json.loads(text)


def encode_value(value: object) -> str:
    """
    Return one value, such as a task's result, as JSON text.

    Raises:
        TypeError, ValueError: on the same conditions as `encode`.
    """
    return _dump(value)


def _dump(value: object, max_depth: int = MAX_DEPTH) -> str:
    try:
        text = json.dumps(value, cls=DjangoJSONEncoder, allow_nan=False)
    except RecursionError:
        raise ValueError(f"is nested deeper than {MAX_DEPTH} levels") from None
    if "\\u" in text or text.count("[") + text.count("{") > max_depth:
        _check_decoded(json.loads(text), max_depth)
    return text


def _check_decoded(value: object, levels: int) -> None:
    """Raise ValueError for text that a database refuses, and for more than `levels` of lists and dictionaries."""
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError("has a NUL character, which databases do not store")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("has a lone surrogate, which is not a character") from None
    elif isinstance(value, dict | list):
        if levels == 0:
            raise ValueError(f"is nested deeper than {MAX_DEPTH} levels")
        for item in [*value, *value.values()] if isinstance(value, dict) else value:
            _check_decoded(item, levels - 1)


def _raise_for_first_wrong(args: Args, kwargs: Mapping[str, Any], name_of: Callable[[int], str]) -> None:
    """Raise TypeError or ValueError with the name of the first argument that cannot be encoded."""
    named = [(name_of(index), value) for index, value in enumerate(args)]
    for name, value in [*named, *kwargs.items()]:
        try:
            _dump(value)
        except TypeError as error:
            raise TypeError(
                f"argument {name!r} is a {type(value).__name__} that JSON cannot hold ({error}). Pass plain data, such "
                "as a primary key, and load the rest in the task; or fire a coroutine object, which stays in memory."
            ) from None
        except ValueError as error:
            raise ValueError(
                f"argument {name!r} {describe_problem(error)}. Pass plain data, such as a primary key."
            ) from None


def describe_problem(error: ValueError) -> str:
    """Return the problem of a value that could not be encoded, as the predicate of a sentence about the value."""
    message = str(error)
    if "JSON compliant" in message:
        return "is or contains NaN or an infinity, which JSON does not have"
    return "contains itself" if "Circular" in message else message
