"""
The versions of a task function's arguments, and the steps that convert the arguments of older rows.

The arguments in a row never change. Each claim of an older row takes the steps again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import Signature
from typing import Any

from ..failure import describe, storable
from .parameters import find_misfits

# Converts the arguments of one version, positional and keyword, to those of the next version.
Step = Callable[[list[Any], dict[str, Any]], tuple[list[Any], dict[str, Any]]]

MAX_VERSION = 99_999  # It leaves 10 of a fingerprint's 16 characters for the hash.
MAX_NAMED = 10  # The number of arguments that one message names.


def version_of(fingerprint: str) -> int:
    """
    Return the version in a row's fingerprint; 1 if there is none, as in rows older than the option.

    >>> version_of("2:e8e000f984dc38"), version_of("")
    (2, 1)
    """
    version, colon, _ = fingerprint.partition(":")
    return int(version) if colon and version.isascii() and version.isdecimal() else 1


def upgrade(
    steps: Mapping[int, Step], version: int, target: int, args: list[Any], kwargs: dict[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """
    Convert the arguments of one version to those of a later one.

    Args:
        steps: the steps by the version that they convert from.
        version: the version of the arguments.
        target: the version of the function.

    Raises:
        ValueError: a step is missing, raises, or does not return arguments.
    """
    for number in range(version, target):
        versions = f"its arguments are of version {version}, the function is of version {target}"
        if number not in steps:
            raise ValueError(f"{versions}, and no @….migrate(from_version={number}) is declared.")
        try:
            found: Any = steps[number](args, kwargs)
        except BaseException as error:  # noqa: BLE001, RUF100  # The project's code must not end the thread.
            summary = describe(error, None).summary
            raise ValueError(f"{versions}, and migrate(from_version={number}) raised {summary}.") from None
        if not _are_arguments(found):
            raise ValueError(
                f"{versions}, and migrate(from_version={number}) returned a {type(found).__name__} that is not a pair "
                "of a list and a dictionary with names: return args, kwargs."
            )
        args, kwargs = list(found[0]), found[1]
    return args, kwargs


def _are_arguments(found: object) -> bool:
    return (
        isinstance(found, tuple)
        and len(found) == 2
        and isinstance(found[0], list | tuple)
        and isinstance(found[1], dict)
        and all(isinstance(name, str) for name in found[1])
    )


def describe_misfit(
    signature: Signature, args: Sequence[Any], kwargs: Mapping[str, Any], fired_with: str, has_now: str, release: str
) -> str:
    """
    Describe the differences between the arguments of a row and the signature of its function.

    Args:
        fired_with: the fingerprint in the row. Empty: the row has none.
        has_now: the fingerprint of the function.
        release: the release that fired the task. Empty: it has no name.
    """
    missing, unexpected = find_misfits(signature, args, kwargs)
    kinds = (("Missing", missing), ("Unexpected", unexpected))
    differences = [f"{kind}: {_list(names)}." for kind, names in kinds if names]
    by = f" by release {release}" if release else ""
    origin = f"It was fired with {_describe(fired_with)}{by}; here the function has {_describe(has_now)}."
    return " ".join([*differences, origin])


def _list(names: Sequence[str]) -> str:
    more = [f"{len(names) - MAX_NAMED} more"] if len(names) > MAX_NAMED else []
    return ", ".join([*(storable(name)[:100] for name in names[:MAX_NAMED]), *more])


def _describe(fingerprint: str) -> str:
    if not fingerprint:
        return "a signature that was not recorded"
    return f"version {version_of(fingerprint)} (signature {fingerprint})"
