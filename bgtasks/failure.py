"""Failures: descriptions of exceptions as text. Making one never raises, even for an exception with faulty code."""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from .frames import is_project_file

MAX_TYPE = 200  # Characters: the size of the column.
MAX_MESSAGE = 10_000  # Characters.
MAX_TRACEBACK = 50_000  # Characters.
MAX_FRAMES = 60  # The innermost frames.


@dataclass(frozen=True, slots=True)
class Failure:
    """An exception as text that every database can store."""

    type: str  # `module.QualName`; of a builtin exception only the name.
    message: str
    traceback: str  # In Python's standard format, chained exceptions included.
    fingerprint: str  # 16 hex digits, equal for exceptions of one type that were raised at one place.

    @property
    def summary(self) -> str:
        """The type and the first line of the message, for a log line or a history."""
        first_line = self.message.partition("\n")[0]
        return f"{self.type}: {first_line[:200]}" if first_line else self.type


def describe(error: BaseException, trace: TracebackType | None, hide: Callable[[str], str] | None = None) -> Failure:
    """
    Return the description of an exception.

    This never raises, although `__str__` of an exception is foreign code, which may raise anything or return megabytes.

    Args:
        trace: the traceback to describe. Its frames may be a part of those in `error.__traceback__`.
        hide: removes sensitive values from a text.
    """
    try:
        return _describe(error, trace, hide or str)
    except BaseException as second:  # noqa: BLE001, RUF100  # See above.
        message = f"an exception that could not be described: {type(second).__name__}"
        return Failure("Exception", message, "".join(traceback.format_tb(trace))[:MAX_TRACEBACK], "")


def _describe(error: BaseException, trace: TracebackType | None, hide: Callable[[str], str]) -> Failure:
    kind = type(error)
    module = str(kind.__module__)
    name = kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"
    name = storable(name)[:MAX_TYPE]
    return Failure(
        type=name,
        message=_cut(hide(_message_of(error)), MAX_MESSAGE),
        traceback=_cut(hide(_format(error, trace)), MAX_TRACEBACK),
        fingerprint=hashlib.sha256(f"{name} {_place_of(trace)}".encode()).hexdigest()[:16],
    )


def storable(text: str) -> str:
    """Return a text with escapes for the characters that some databases refuse: NUL and lone surrogates."""
    if text.isascii():
        return text.replace("\0", "\\x00")
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def _message_of(error: BaseException) -> str:
    try:
        return str.__str__(str(error))  # `str(error)` may return a subclass with other methods.
    except BaseException as second:  # noqa: BLE001, RUF100  # Foreign code: it may even raise SystemExit.
        return f"<its str() raised {type(second).__name__}>"


def _format(error: BaseException, trace: TracebackType | None) -> str:
    try:
        described = traceback.TracebackException(type(error), error, trace, limit=-MAX_FRAMES, compact=True)
        return "".join(described.format())
    except BaseException:  # noqa: BLE001, RUF100  # As above. The frames alone are still useful.
        lines = traceback.format_tb(trace, limit=-MAX_FRAMES)
        return "".join(
            ["Traceback (most recent call last):\n", *lines, f"{type(error).__qualname__}: {_message_of(error)}\n"]
        )


def _place_of(trace: TracebackType | None) -> str:
    """Return the innermost function of the project, with its module; of any code if the project has none in it."""
    place = ""
    own = ""
    while trace is not None:
        code = trace.tb_frame.f_code
        place = f"{trace.tb_frame.f_globals.get('__name__')}.{code.co_qualname}"
        if is_project_file(code.co_filename):
            own = place
        trace = trace.tb_next
    return own or place


def _cut(text: str, length: int) -> str:
    """Shorten a text in the middle, since the last lines of a traceback show the error and the first its origin."""
    if len(text) > length:
        dropped = len(text) - length
        text = f"{text[: length // 2]}\n… {dropped} characters left out …\n{text[-length // 2 :]}"
    return storable(text)
