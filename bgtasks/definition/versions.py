"""
The versions of a task function: what a row says of the one that it was fired with, and the steps from there to here.

Knows nothing of databases and loops. A row keeps its arguments as they were fired: each claim takes the steps anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import Signature
from typing import Any

from ..failure import describe, storable
from .parameters import find_misfits

# Makes of the arguments of one version, by position and by keyword, those of the next.
Step = Callable[[list[Any], dict[str, Any]], tuple[list[Any], dict[str, Any]]]

MAX_VERSION = 99_999  # The row's fingerprint has 16 characters, and is to hold more than this.
MAX_NAMED = 10  # Arguments that one message names.


def version_of(fingerprint: str) -> int:
    """
    Return the version that a row was fired with. One whose fingerprint says none is from before there were any.

    >>> version_of("2:e8e000f984dc38"), version_of("")
    (2, 1)
    """
    version, colon, _ = fingerprint.partition(":")
    return int(version) if colon and version.isascii() and version.isdecimal() else 1


def upgrade(
    steps: Mapping[int, Step], version: int, target: int, args: list[Any], kwargs: dict[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """
    Return the arguments of one version as those of a later one.

    Args:
        steps: by the version that they begin at.

    Raises:
        ValueError: a step is missing, raises, or returns something else than arguments.
    """
    for number in range(version, target):
        told = f"its arguments are of version {version}, the function is of version {target}"
        if number not in steps:
            raise ValueError(f"{told}, and no @….migrate(from_version={number}) is declared.")
        try:
            found: Any = steps[number](args, kwargs)
        except BaseException as error:  # noqa: BLE001, RUF100  # The project's code. It must not end the thread.
            summary = describe(error, None).summary
            raise ValueError(f"{told}, and migrate(from_version={number}) raised {summary}.") from None
        if not _are_arguments(found):
            raise ValueError(
                f"{told}, and migrate(from_version={number}) returned a {type(found).__name__} that is no pair of a "
                "list and a dictionary with names: return args, kwargs."
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


def tell_misfit(
    signature: Signature, args: Sequence[Any], kwargs: Mapping[str, Any], fired_with: str, has_now: str, release: str
) -> str:
    """
    Tell how arguments and function have come apart.

    Args:
        fired_with: the fingerprint in the row. Empty: it has none.
        has_now: the fingerprint of the function.
        release: that fired it. Empty: it has no name.
    """
    missing, unexpected = find_misfits(signature, args, kwargs)
    told = [f"{what}: {_list(names)}." for what, names in (("Missing", missing), ("Unexpected", unexpected)) if names]
    by = f" by release {release}" if release else ""
    return " ".join(
        [*told, f"It was fired with {_tell(fired_with)}{by}; here the function has {_tell(has_now)}."],
    )


def _list(names: Sequence[str]) -> str:
    more = [f"{len(names) - MAX_NAMED} more"] if len(names) > MAX_NAMED else []
    return ", ".join([*(storable(name)[:100] for name in names[:MAX_NAMED]), *more])


def _tell(fingerprint: str) -> str:
    if not fingerprint:
        return "a signature that was not recorded"
    return f"version {version_of(fingerprint)} (signature {fingerprint})"
