"""
Rates: so many starts in any period, counted over all processes in a row of the database.

A log of what was started in the last period, by the database's clock ("sliding window log"). Each claim takes what the
period still has room for, in the transaction that claims the tasks, so that processes never exceed it together.
"""

from __future__ import annotations

from django.db import connections

from ..models import RateLimit
from ..rate import Rate

# A start reaches what the limit protects some time after it was counted, and not always the same time. So the period is
# taken as this much longer, or two starts that were far enough apart here could be too close together there.
LATENESS = 0.1  # Seconds.
SLACK = 1.05
PARTS = 50  # Starts of one part of the period are kept as one.


class Allowance:
    """What a limiter allows now. Made in the claim's transaction: its row is locked until the commit."""

    def __init__(self, using: str, name: str, rate: Rate, now: float) -> None:
        """
        Args:
            now: by the database's clock, in seconds since the epoch.
        """
        self._rows = RateLimit.objects.using(using).filter(pk=name)
        self._rate = rate
        self._now = now
        self._window = rate.seconds * SLACK + LATENESS
        starts = self._rows.values_list("starts", flat=True).get()
        self._starts = [(at, count) for at, count in starts if at > now - self._window]
        self.count = max(rate.count - sum(count for _, count in self._starts), 0)

    @property
    def seconds_until_more(self) -> float:
        """The seconds until it allows more than it did when it was made."""
        return self._starts[0][0] + self._window - self._now if self._starts else 0.0

    def use(self, count: int) -> None:
        """Count what was started."""
        if not count:
            return
        last = self._starts[-1] if self._starts else None
        if last is not None and self._now - last[0] < self._window / PARTS:
            self._starts[-1] = (self._now, last[1] + count)
        else:
            self._starts.append((self._now, count))
        self._rows.update(starts=self._starts, used_at=self._now)


def try_to_lock(using: str, name: str) -> bool:
    """
    Lock the row of a limiter until the end of the transaction, made if need be.

    Returns:
        False: another process has it. It may be stopped in the middle, so nobody waits for it.
    """
    rows = RateLimit.objects.using(using)
    rows.bulk_create([RateLimit(name=name)], ignore_conflicts=True)
    if not connections[using].features.has_select_for_update_skip_locked:
        return True  # SQLite: who writes has the database alone.
    return bool(rows.select_for_update(skip_locked=True).filter(pk=name).values_list("pk"))
