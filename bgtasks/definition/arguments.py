"""
Check a task's arguments at the call, and turn them into JSON.

Plain scalars, what most tasks take, pass by their exact type and are encoded later, on the journal's thread. Anything
else is encoded at the call, and the task gets it as JSON gives it back (a tuple as a list, a date as a string): the
first attempt sees what a later one, in another process, would see.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from json.encoder import encode_basestring_ascii
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder

MAX_DEPTH = 30  # Levels. MariaDB refuses JSON deeper than 31; with the list around the arguments that leaves 30.
MAX_PLAIN_COUNT = 16
_MAX_INT = 2**63

Args = tuple[Any, ...]
Kwargs = dict[str, Any]


def are_plain(args: Args, kwargs: Kwargs, max_length: int) -> bool:
    """Tell whether all arguments are short scalars, which JSON holds as they are."""
    if kwargs:
        if not are_plain(tuple(kwargs), {}, max_length):
            return False
        args += tuple(kwargs.values())
    if len(args) > MAX_PLAIN_COUNT:
        return False
    # Exact types and one pass: this is on the path of every `fire` (0.1 µs for two scalars).
    for value in args:
        kind = type(value)
        if kind is str:
            if len(value) > max_length or not value.isascii() or "\0" in value:
                return False
        elif kind is int:
            if not -_MAX_INT < value < _MAX_INT:
                return False
        elif kind is float:
            if value - value != 0.0:  # NaN and the infinities, which JSON does not know.
                return False
        elif value is not None and kind is not bool:
            return False
    return True


# How JSON writes each kind of plain argument: a third of the time of `json.dumps`, which makes an encoder each time.
_TEXTS: dict[type, Callable[[Any], str]] = {
    str: encode_basestring_ascii,
    int: int.__repr__,
    float: float.__repr__,
    bool: {True: "true", False: "false"}.__getitem__,
    type(None): {None: "null"}.__getitem__,
}


def encode_plain(args: Args, kwargs: Kwargs) -> tuple[str, str]:
    """
    Return plain arguments as two JSON texts, as `json.dumps` writes them.

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
    Return the arguments as two JSON texts, ASCII only.

    Args:
        max_bytes: of the two texts together.
        name_of: gives the name of the positional parameter with an index, for the message.

    Raises:
        TypeError: an argument is of a type that JSON does not know.
        ValueError: an argument is nothing that JSON or a database can hold: NaN, NUL, a lone surrogate, too deep, a
            cycle, or all of them are too large together.
    """
    try:
        texts = _dump(args, MAX_DEPTH + 1), _dump(kwargs, MAX_DEPTH + 1)
    except (TypeError, ValueError, RecursionError):
        _name_the_culprit(args, kwargs, name_of)
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
        TypeError, ValueError: as `encode`.
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
    """Raise for text that a database refuses, and for more than so many levels of lists and dictionaries."""
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError("has a NUL character, which databases do not store")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("has a lone surrogate, which is no character") from None
    elif isinstance(value, dict | list):
        if levels == 0:
            raise ValueError(f"is nested deeper than {MAX_DEPTH} levels")
        for item in [*value, *value.values()] if isinstance(value, dict) else value:
            _check_decoded(item, levels - 1)


def _name_the_culprit(args: Args, kwargs: Mapping[str, Any], name_of: Callable[[int], str]) -> None:
    """Raise for the first argument that cannot be encoded by itself."""
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
            raise ValueError(f"argument {name!r} {tell(error)}. Pass plain data, such as a primary key.") from None


def tell(error: ValueError) -> str:
    """Return what is wrong with a value that was not encoded, as what follows its name."""
    what = str(error)
    if "JSON compliant" in what:
        return "is or holds NaN or an infinity, which JSON does not know"
    return "contains itself" if "Circular" in what else what
