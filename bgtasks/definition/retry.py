"""Whether an attempt that raised is followed by another, and when."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from tenacity.wait import wait_exponential, wait_fixed, wait_incrementing

from ..exceptions import Retry
from ..log import log
from ..retry_after import find_retry_after
from .options import LONGEST_DELAY, Options
from .task import Task


def find_delay(
    task: Task[..., Any], attempt: int, error: BaseException, hide: Callable[[str], str] | None = None
) -> float | None:
    """
    Return the seconds until the next attempt.

    Args:
        attempt: the number of the attempt that raised `error`, from 1.
        hide: takes out of a text what the log must not tell.

    Returns:
        At least 0, and no more than any database can hold. None: there is none.
    """
    if attempt >= task.max_attempts or not _is_worth_it(task.options, error):
        return None
    longest = LONGEST_DELAY.total_seconds()
    if isinstance(error, Retry) and (asked := error.seconds()) is not None:
        return min(asked, longest)
    # Of `raise Retry() from error` the error has the answer.
    hint = find_retry_after(error.__cause__ if isinstance(error, Retry) and error.__cause__ is not None else error)
    try:
        seconds = _back_off(task.options, attempt, error)
    except BaseException as fault:  # noqa: BLE001, RUF100  # The project's code; what the task raised is to be told.
        told = "The backoff of task %s failed, so it is not tried again."
        log(logging.ERROR, told, task.name, exc_info=fault, hide=hide)
        return None
    return min(max(seconds, hint or 0.0), longest)


def _is_worth_it(options: Options, error: BaseException) -> bool:
    if isinstance(error, Retry):
        return True
    return (
        options.max_attempts is not None
        and isinstance(error, options.retry_on)
        and not isinstance(error, options.give_up_on)
    )


def _back_off(options: Options, attempt: int, error: BaseException) -> float:
    backoff = options.backoff
    if callable(backoff):
        seconds = float(backoff(attempt, error))
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ValueError(f"it returned {seconds!r}, which is no number of seconds.")
        return seconds
    first, cap = options.backoff_first, options.backoff_cap
    state: Any = SimpleNamespace(attempt_number=attempt)  # All that these ask of tenacity's state of a call.
    match backoff:
        case "exponential":
            longest = wait_exponential(multiplier=first, max=cap)(state)
        case "linear":
            longest = wait_incrementing(start=first, increment=first, max=cap)(state)
        case "constant":
            longest = wait_fixed(first)(state)
    return random.uniform(0, longest) if options.backoff_jitter else longest  # noqa: S311  # Not a secret.
