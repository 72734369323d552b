"""Logging that cannot break what it tells of."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import Any

_logger = logging.getLogger("bgtasks")


def log(level: int, message: str, *values: object, **options: Any) -> None:
    """
    Log to the logger "bgtasks".

    A project's handler, filter or formatter may raise anything, as one that writes to the database does on an event
    loop. That must stop neither a task nor the journal, so the line then goes to standard error instead.
    """
    try:
        _logger.log(level, message, *values, **options)
    except BaseException as error:  # noqa: BLE001, RUF100  # See above.
        with contextlib.suppress(BaseException):
            sys.stderr.write(f"bgtasks could not log ({type(error).__name__}): {message % values}\n")
