"""Logging that never raises."""

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

    A handler, filter or formatter of the project may raise, for example if it writes to the database on an event loop.
    Neither a task nor the journal may stop for that reason: the message is then written to standard error.

    Args:
        hide: removes sensitive values from a text. With it, `exc_info` is logged as a part of the message, since
            handlers of error trackers report the variables in the frames of an exception.
    """
    try:
        if exc_info is not None and hide is not None:
            message, values = f"{message}\n%s", (*values, hide("".join(traceback.format_exception(exc_info))))
            exc_info = None
        _logger.log(level, message, *values, exc_info=exc_info, **options)
    except BaseException as error:  # noqa: BLE001, RUF100  # See above.
        with contextlib.suppress(BaseException):
            sys.stderr.write(f"bgtasks could not log ({type(error).__name__}): {message % values}\n")
