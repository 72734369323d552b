"""
Sensitive arguments: encrypted in the row, and hidden in errors, logs and the admin.

They are encrypted with Fernet (https://cryptography.io/en/latest/fernet/), under keys derived from Django's SECRET_KEY
and SECRET_KEY_FALLBACKS. This needs the package `cryptography`.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from inspect import Signature
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.encoding import force_bytes

from .parameters import find_parameters

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet  # The package is optional.

MARK = "bgtasks.encrypted"  # A sealed value is {MARK: token}.
HIDDEN = "[sensitive]"
MIN_LENGTH = 4  # Characters. Shorter values are not hidden, since they occur in any text.

Hide = Callable[[str], str]  # Returns a text with the values replaced by HIDDEN.


def check_installed() -> None:
    """
    Check that arguments can be encrypted.

    Raises:
        ImproperlyConfigured: the package `cryptography` is not installed.
    """
    try:
        import cryptography.fernet  # noqa: F401  # The package is optional.
    except ImportError:
        raise ImproperlyConfigured(
            'sensitive=… encrypts arguments, which needs the package cryptography: pip install "bgtasks[sensitive]".'
        ) from None


def seal(
    names: Collection[str], signature: Signature, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """
    Return the arguments with the values of the named parameters encrypted.

    Args:
        args, kwargs: decoded JSON.
    """

    def change(name: str, value: Any) -> Any:
        # A caller's value that looks sealed is sealed too: `unseal` must not decrypt tokens from outside.
        return _encrypt(value) if name in names or is_sealed(value) else value

    return _change(signature, args, kwargs, change)


def unseal(
    signature: Signature, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any], list[Any]]:
    """
    Return the arguments with all sealed values decrypted, and a list of these values.

    Raises:
        ValueError: a value was encrypted with another key.
    """
    plain: list[Any] = []

    def change(name: str, value: Any) -> Any:
        if not is_sealed(value):
            return value
        plain.append(_decrypt(name, value[MARK]))
        return plain[-1]

    return *_change(signature, args, kwargs, change), plain


def hide(
    names: Collection[str], signature: Signature, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments with placeholders, shown as "[sensitive]", for the values of the named parameters."""
    return _change(signature, args, kwargs, lambda name, value: _Hidden() if name in names else value)


def make_hide(
    names: Collection[str], signature: Signature, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Hide | None:
    """Return a function that hides the values of the named parameters in a text; None if there are no names."""
    if not names:
        return None
    values: list[Any] = []
    _change(signature, args, kwargs, lambda name, value: values.append(value) if name in names else None)
    return hide_values(values)


def hide_values(values: Iterable[Any]) -> Hide:
    """
    Return a function that hides values in a text: all strings in them of 4 or more characters.

    >>> hide_values(["hunter2", {"pin": ["0000"]}])("hunter2 has 0000")
    '[sensitive] has [sensitive]'
    """
    found = {form for value in values for text in _texts(value) for form in _forms(text) if len(form) >= MIN_LENGTH}
    if not found:
        return lambda text: text
    # One pass, longest first: a value may be a part of another value, or of the word that replaces it.
    pattern = re.compile("|".join(re.escape(form) for form in sorted(found, key=len, reverse=True)))
    return lambda text: pattern.sub(HIDDEN, text)


def is_sealed(value: object) -> bool:
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get(MARK), str)


class _Hidden:
    def __repr__(self) -> str:
        return HIDDEN


def _change(
    signature: Signature, args: Sequence[Any], kwargs: Mapping[str, Any], change: Callable[[str, Any], Any]
) -> tuple[list[Any], dict[str, Any]]:
    by_position, by_name = find_parameters(signature, len(args), kwargs)
    return (
        [change(name, value) for name, value in zip(by_position, args, strict=True)],
        {key: change(by_name[key], value) for key, value in kwargs.items()},
    )


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _forms(text: str) -> Iterator[str]:
    """Yield the forms in which a message may quote a text: plain, as Python or JSON literal, and its single lines."""
    yield from (text, repr(text)[1:-1], json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1])
    yield from (line.strip() for line in text.splitlines())


def _encrypt(value: Any) -> dict[str, str]:
    return {MARK: _fernet().encrypt(json.dumps(value).encode()).decode("ascii")}


def _decrypt(name: str, token: str) -> Any:
    from cryptography.fernet import InvalidToken  # The package is optional.

    try:
        return json.loads(_fernet().decrypt(token.encode()))
    except (InvalidToken, UnicodeError):
        raise ValueError(
            f"the sensitive argument {name!r} cannot be decrypted: SECRET_KEY is another one than when it was fired. "
            "Put the old one into SECRET_KEY_FALLBACKS, then fire the task again"
        ) from None


def _fernet() -> MultiFernet:
    return _make_fernet((settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS))


@lru_cache(8)  # One in a project. Tests change the settings.
def _make_fernet(secrets: tuple[str | bytes, ...]) -> MultiFernet:
    from cryptography.fernet import Fernet, MultiFernet  # The package is optional.
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    def derive(secret: str | bytes) -> Fernet:
        # A derived key: other data that is signed or encrypted with SECRET_KEY reveals nothing about it.
        key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"bgtasks.sensitive").derive(force_bytes(secret))
        return Fernet(base64.urlsafe_b64encode(key))

    return MultiFernet([derive(secret) for secret in secrets])
