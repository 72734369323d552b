"""
Rates: so many starts in any period, counted over all processes in a row of the database.

A log of what was started in the last period, by the database's clock ("sliding window log"). Each claim takes a bundle
of what the period still has room for, in the transaction that claims the tasks, so that processes never exceed it
together.

What a rate protects, such as an API, counts when a call reaches it, and that is some time after the start: at the end
of the task at the latest. So a bundle counts from the end of its tasks, or from LATENESS after their start if they take
longer. A process brings in the ends of its bundles with its next claim, which has the row anyway. There it also puts
off the end of one that goes on for longer than others of its kind: then the process, or the machine, is slow.
"""

from __future__ import annotations

import time
from collections.abc import Collection

from django.db import connections

from ..definition.rate import Rate
from ..models import RateLimit
from ..uuid7 import uuid7

LATENESS = 1.0  # Seconds; at most the period.
LONGEST_DELAY = 30.0  # Seconds for which one that goes on for too long is put off.
SLACK = 1.01  # Times the period, and
MARGIN = 0.01  # seconds: clocks are not that exact.


class Bundle:
    """What one claim has taken of a rate, as the process that runs it knows it. Ends like a gate: with each task."""

    def __init__(self, limiter: str, count: int) -> None:
        self.id = str(uuid7())
        self.limiter = limiter
        self.began_at = time.monotonic()
        self.ended_at: float | None = None  # All of it, by `time.monotonic()`.
        self._left: list[None] = [None] * count  # Popping is atomic: tasks end on any loop.

    @property
    def is_wanted(self) -> bool:
        """Whether its process does well to claim again, now that its end is known."""
        return self.ended_at is not None

    def is_over(self, rate: Rate) -> bool:
        """Tell whether it counts no more, even if nobody has brought in its end."""
        return self.ended_at is not None and time.monotonic() - self.ended_at > window_of(rate) + LATENESS

    def is_late(self, clock: float, usual: float | None, lateness: float) -> bool:
        """Tell whether it should have ended by now, as short as such tasks usually are."""
        if self.ended_at is not None or (usual is not None and usual > lateness):
            return False
        return clock - self.began_at < LONGEST_DELAY

    def give_back(self) -> None:
        self._left.pop()
        if not self._left:
            self.ended_at = time.monotonic()


def window_of(rate: Rate) -> float:
    """Return the seconds in which no more may start than the rate says."""
    return rate.seconds * SLACK + MARGIN


class Allowance:
    """What a limiter allows now. Made in the claim's transaction, which has locked its row."""

    def __init__(
        self, using: str, name: str, rate: Rate, now: float, own: Collection[Bundle], usual: float | None = None
    ) -> None:
        """
        Args:
            now: by the database's clock, in seconds since the epoch.
            own: bundles of this process that may still count.
            usual: the seconds that such tasks take. None: not known yet.
        """
        self._name = name
        self._rows = RateLimit.objects.using(using).filter(pk=name)
        self._now = now
        self._lateness = min(LATENESS, rate.seconds)
        self._window = window_of(rate)
        clock = time.monotonic()
        ended = {bundle.id: now - (clock - bundle.ended_at) for bundle in own if bundle.ended_at is not None}
        late = {bundle.id for bundle in own if bundle.is_late(clock, usual, self._lateness)}
        starts: list[tuple[str, float, int]] = []
        for id_, counts_from, count in self._rows.values_list("starts", flat=True).get():
            at = now + self._lateness if id_ in late else min(counts_from, ended.get(id_, counts_from))
            if at > now - self._window:
                starts.append((id_, at, count))
        self._starts = starts
        self.count = max(rate.count - sum(count for _, _, count in starts), 0)

    @property
    def seconds_until_more(self) -> float:
        """The seconds until it allows more than now, as far as it is known."""
        return min((at for _, at, _ in self._starts), default=self._now) + self._window - self._now

    def use(self, count: int) -> Bundle:
        """Count what was started."""
        bundle = Bundle(self._name, count)
        if count:
            self._starts.append((bundle.id, self._now + self._lateness, count))
        self._rows.update(starts=self._starts, used_at=self._now)
        return bundle


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
