"""
Rates: a maximum number of starts in any period, counted over all processes in a row of the database.

The row has a log of the starts in the last period, by the database's clock ("sliding window log"). Each claim takes a
bundle of the starts that the period still has room for, in the transaction that claims the tasks. So all processes
together never exceed the rate.

The service that a rate protects, such as an API, counts a call when it arrives. That is some time after the start of
the task, and no later than its end. So a bundle counts from the end of its tasks, or from LATENESS after their start if
they take longer. A process enters the ends of its bundles with its next claim, which locks the row anyway. That claim
also puts off the moment from which an unfinished bundle counts, if it takes longer than others of its kind: then the
process, or the machine, is slow.
"""

from __future__ import annotations

import time
from collections.abc import Collection

from django.db import connections

from ..definition.rate import Rate
from ..models import RateLimit
from ..uuid7 import uuid7

LATENESS = 1.0  # Seconds; at most the period.
LONGEST_DELAY = 30.0  # Seconds from the start of a bundle for which it may be put off.
# The window is SLACK times the period and MARGIN seconds long, since clocks are not exact.
SLACK = 1.01
MARGIN = 0.01


class Bundle:
    """The starts that one claim has taken of a rate. Each task gives its place back at its end, as with a gate."""

    def __init__(self, limiter: str, count: int) -> None:
        self.id = str(uuid7())
        self.limiter = limiter
        self.began_at = time.monotonic()
        self.ended_at: float | None = None  # The end of its last task, on the monotonic clock.
        self._left: list[None] = [None] * count  # Popping is atomic: tasks end on any loop.

    @property
    def is_wanted(self) -> bool:
        """Whether a new claim may find room, since its end is known now."""
        return self.ended_at is not None

    def is_over(self, rate: Rate) -> bool:
        """Return whether it counts no more, even if its end is not in the row."""
        return self.ended_at is not None and time.monotonic() - self.ended_at > window_of(rate) + LATENESS

    def is_late(self, clock: float, usual: float | None, lateness: float) -> bool:
        """
        Return whether its end is put off: it has not ended, though such tasks usually take less than `lateness`.

        Args:
            clock: the moment, on the monotonic clock.
            usual: the seconds that such tasks take. None: not known yet.
        """
        if self.ended_at is not None or (usual is not None and usual > lateness):
            return False
        return clock - self.began_at < LONGEST_DELAY

    def give_back(self) -> None:
        self._left.pop()
        if not self._left:
            self.ended_at = time.monotonic()


def window_of(rate: Rate) -> float:
    """Return the length of the window, in seconds. No more tasks start within it than the rate allows."""
    return rate.seconds * SLACK + MARGIN


class Allowance:
    """The starts that a limiter allows now. Make it in the transaction of a claim, which has locked the row."""

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
        """The seconds until it allows more starts than now, as far as is known."""
        return min((at for _, at, _ in self._starts), default=self._now) + self._window - self._now

    def use(self, count: int) -> Bundle:
        """Count the tasks that are started, and return their bundle."""
        bundle = Bundle(self._name, count)
        if count:
            self._starts.append((bundle.id, self._now + self._lateness, count))
        self._rows.update(starts=self._starts, used_at=self._now)
        return bundle


def try_to_lock(using: str, name: str) -> bool:
    """
    Lock the row of a limiter until the end of the transaction; create the row if it is missing.

    Returns:
        False if another process has locked it. That process may be suspended, so this one does not wait.
    """
    rows = RateLimit.objects.using(using)
    rows.bulk_create([RateLimit(name=name)], ignore_conflicts=True)
    if not connections[using].features.has_select_for_update_skip_locked:
        return True  # On SQLite a writer has the database to itself.
    return bool(rows.select_for_update(skip_locked=True).filter(pk=name).values_list("pk"))
