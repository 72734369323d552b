"""Logging that cannot break what it tells of."""

from __future__ import annotations

import contextlib
import logging
import sys
import traceback
from collections.abc import Callable
from typing import Any

_logger = logging.getLogger("bgtasks")


def log(
    level: int,
    message: str,
    *values: object,
    exc_info: BaseException | None = None,
    hide: Callable[[str], str] | None = None,
    **options: Any,
) -> None:
    """
    Log to the logger "bgtasks".

    Args:
        hide: takes out of a text what the log must not tell. An exception is then logged as a part of the message:
            handlers that get the exception itself look at its frames, and report what their variables hold.

    A project's handler, filter or formatter may raise anything, as one that writes to the database does on an event
    loop. That must stop neither a task nor the journal, so the line then goes to standard error instead.
    """
    try:
        if exc_info is not None and hide is not None:
            message, values = f"{message}\n%s", (*values, hide("".join(traceback.format_exception(exc_info))))
            exc_info = None
        _logger.log(level, message, *values, exc_info=exc_info, **options)
    except BaseException as error:  # noqa: BLE001, RUF100  # See above.
        with contextlib.suppress(BaseException):
            sys.stderr.write(f"bgtasks could not log ({type(error).__name__}): {message % values}\n")
