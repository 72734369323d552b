"""The deadline of a drain: the moment at which all of it has to be over."""

from __future__ import annotations

from ..conf import Settings


def find_deadline(settings: Settings, stop_asked_at: float, now: float, drain_timeout: float | None = None) -> float:
    """
    Return the deadline of a drain, on the clock of the two moments.

    It counts from the signal, as the platform does that will kill the process. If open requests have used up that
    time, cancelled tasks still have their time to clean up.

    Args:
        stop_asked_at: the moment at which the process was asked to stop.
        now: the beginning of the drain.
        drain_timeout: seconds for running tasks. None: the setting DRAIN_TIMEOUT.
    """
    timeout = settings.drain_timeout if drain_timeout is None else drain_timeout
    return max(stop_asked_at + timeout, now) + settings.ending_seconds
