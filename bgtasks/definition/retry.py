"""Retries: whether another attempt follows a failed one, and when."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable
from typing import Any

from ..exceptions import Retry
from ..log import log
from ..retry_after import find_retry_after
from .options import LONGEST_DELAY, Growth, Options
from .task import Task


def find_delay(
    task: Task[..., Any], attempt: int, error: BaseException, hide: Callable[[str], str] | None = None
) -> float | None:
    """
    Return the seconds until the next attempt.

    Args:
        attempt: the number of the attempt that raised `error`, from 1.
        hide: removes sensitive values from a text for the log.

    Returns:
        From 0 to `LONGEST_DELAY`. None: there is no other attempt.
    """
    if attempt >= task.max_attempts or not _may_retry(task.options, error):
        return None
    longest = LONGEST_DELAY.total_seconds()
    if isinstance(error, Retry) and (asked := error.seconds()) is not None:
        return min(asked, longest)
    # After `raise Retry() from error` the server's answer is in `error`.
    hint = find_retry_after(error.__cause__ if isinstance(error, Retry) and error.__cause__ is not None else error)
    try:
        seconds = _back_off(task.options, attempt, error)
    except BaseException as fault:  # noqa: BLE001, RUF100  # The project's code must not hide the error of the task.
        message = "The backoff of task %s failed, so it is not tried again."
        log(logging.ERROR, message, task.name, exc_info=fault, hide=hide)
        return None
    return min(max(seconds, hint or 0.0), longest)


def _may_retry(options: Options, error: BaseException) -> bool:
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
            raise ValueError(f"it returned {seconds!r}, which is not a number of seconds.")
        return seconds
    longest = find_wait(backoff, options.backoff_first, options.backoff_cap, attempt)
    return random.uniform(0, longest) if options.backoff_jitter else longest  # noqa: S311  # No secret.


def find_wait(growth: Growth, first: float, cap: float, attempt: int) -> float:
    """
    Return the seconds between an attempt and the next one, before jitter.

    The exponential wait is the capped exponential backoff of
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/, which counts attempts from 0.

    Args:
        first: seconds of the first wait.
        cap: seconds of the longest wait. The constant wait is always `first`.
        attempt: the number of the failed attempt, from 1.

    >>> [find_wait("exponential", 2.0, 10.0, attempt) for attempt in (1, 2, 3, 4)]
    [2.0, 4.0, 8.0, 10.0]
    >>> [find_wait("linear", 2.0, 7.0, attempt) for attempt in (1, 2, 3, 4)]
    [2.0, 4.0, 6.0, 7.0]
    """
    match growth:
        case "exponential":
            try:
                return min(math.ldexp(first, attempt - 1), cap)
            except OverflowError:  # From attempt 1,025 on, if `first` is 1 second.
                return cap
        case "linear":
            return min(first + first * (attempt - 1), cap)
        case "constant":
            return first
