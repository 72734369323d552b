"""Outages of the database, as the journal sees them: their beginning, the tries in between, their end."""

from __future__ import annotations

import logging
import time

from ..conf import Settings
from ..log import log
from .statements import is_missing_table

FIRST_RETRY, LAST_RETRY = 0.05, 2.0  # Seconds between two tries.


class Outage:
    """
    The current outage, if there is one. The journal's thread changes it.

    Attributes:
        is_away: whether the database takes no records now. Read from any thread.
    """

    def __init__(self, settings: Settings) -> None:
        self.is_away = False
        self._longest_delay = min(LAST_RETRY, settings.heartbeat)
        self._since = 0.0
        self._retry_at = 0.0
        self._delay = FIRST_RETRY

    def note_failure(self, error: Exception) -> None:
        """Begin an outage, or plan the next try in the current one."""
        now = time.monotonic()
        if not self.is_away:
            self.is_away = True
            self._since = now
            self._delay = FIRST_RETRY
            hint = " Run `manage.py migrate`." if is_missing_table(error) else ""
            log(
                logging.ERROR,
                "The database does not take records (%s: %s).%s Tasks go on; their changes wait in memory.",
                type(error).__name__,
                str(error).strip(),
                hint,
            )
        self._retry_at = now + self._delay
        self._delay = min(self._delay * 2, self._longest_delay)

    def note_success(self) -> None:
        """End the outage, if there is one."""
        if self.is_away:
            self.is_away = False
            log(logging.WARNING, "The database takes records again, after %.1f s.", time.monotonic() - self._since)

    def seconds_until_retry(self, now: float) -> float:
        """Return the seconds until the next try, at the moment `now` of the monotonic clock; 0 or less: it is due."""
        return self._retry_at - now if self.is_away else 0.0
