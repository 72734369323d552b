"""Signatures of functions: the parameter of each argument, the arguments that do not fit, and fingerprints."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from inspect import Parameter, Signature
from typing import Any

FINGERPRINT_LENGTH = 16  # The size of the column.

_BY_POSITION = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


def fingerprint(signature: Signature, version: int) -> str:
    """
    Return the version, and a hash of the signature's parameters: the name, the kind and the presence of a default.

    The value of a default and the annotations make no difference.

    >>> import inspect
    >>> fingerprint(inspect.signature(lambda to, *, polite=True: None), 2)
    '2:e8e000f984dc38'
    """
    texts = [f"{each.name} {each.kind.name} {each.default is not each.empty}" for each in signature.parameters.values()]
    return f"{version}:{hashlib.sha256(', '.join(texts).encode()).hexdigest()}"[:FINGERPRINT_LENGTH]


def positional_names(signature: Signature) -> list[str]:
    """Return the names of the parameters that take a single argument by position, in their order."""
    return [each.name for each in signature.parameters.values() if each.kind in _BY_POSITION]


def find_parameters(signature: Signature, count: int, names: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    """
    Return the parameter of each positional argument, and the parameter of each keyword argument by its keyword.

    For a positional argument without a parameter it is "number 3", for a keyword without one the keyword itself.

    Args:
        count: the number of positional arguments.
        names: the keywords.

    >>> import inspect
    >>> find_parameters(inspect.signature(lambda to, *others, **options: None), 2, ["copy"])
    (['to', 'others'], {'copy': 'options'})
    """
    of_kind = {each.kind: each.name for each in signature.parameters.values()}  # Used for *args and **kwargs only.
    by_name = {each.name for each in signature.parameters.values() if each.kind in _BY_NAME}
    found = positional_names(signature)[:count]
    more = of_kind.get(Parameter.VAR_POSITIONAL)
    found += [more or f"number {place + 1}" for place in range(len(found), count)]
    return found, {name: name if name in by_name else of_kind.get(Parameter.VAR_KEYWORD, name) for name in names}


def find_misfits(signature: Signature, args: Sequence[Any], names: Collection[str]) -> tuple[list[str], list[str]]:
    """
    Return the parameters that lack a required argument, and the arguments that have no parameter.

    Args:
        names: the keywords of the keyword arguments.

    >>> import inspect
    >>> find_misfits(inspect.signature(lambda to, subject, copy=False: None), ["ann"], ["title", "copy"])
    (['subject'], ['title'])
    """
    parameters = signature.parameters.values()
    kinds = {each.kind for each in parameters}
    by_position = positional_names(signature)
    given = set(by_position[: len(args)])
    unexpected: list[str] = []
    if len(args) > len(by_position) and Parameter.VAR_POSITIONAL not in kinds:
        unexpected.append(f"{len(args) - len(by_position)} more by position")
    by_name = {each.name for each in parameters if each.kind in _BY_NAME}
    for name in names:
        if name in by_name and name not in given:
            given.add(name)
        elif name in by_name or Parameter.VAR_KEYWORD not in kinds:
            unexpected.append(name)
    needed = [
        each.name for each in parameters if each.default is each.empty and each.kind in (*_BY_POSITION, *_BY_NAME)
    ]
    return [name for name in needed if name not in given], unexpected
