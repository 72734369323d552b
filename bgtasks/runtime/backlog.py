"""The backlog: READY rows that this process may claim, as far as it knows of them."""

from __future__ import annotations

import heapq
import math
import threading
from dataclasses import dataclass

from ..process.record import Record
from .limits import Limits


@dataclass(frozen=True)
class Expected:
    """The kinds of rows that a claim expects, so that it need not look for them first."""

    has_rows: bool  # Rows without limits.
    has_limited: bool  # Rows with limits of their own, for which there may be room.
    version: int


class Backlog:
    """
    The knowledge of this process about rows that wait in the table. It claims them at once, or at their moment.

    Other processes may claim them first. The methods may be called from any thread, `take` and `settle` only from the
    journal's.

    Attributes:
        has_rows: whether rows without limits wait. Then newly fired tasks queue up behind them, even if a slot is free:
            otherwise the rows might wait for ever.
    """

    def __init__(self, limits: Limits) -> None:
        self.has_rows = False
        self._limits = limits
        self._has_limited = False
        self._version = 0  # Counts the expectations, so that one that comes during a claim is not forgotten.
        # Moments, in seconds since the epoch.
        self._moments: list[float] = []  # A heap: the `run_after` of waiting rows.
        self._limited_at = math.inf  # The moment at which a rate has room again.
        self._lock = threading.Lock()  # Guards the moments.

    def expect(self, record: Record) -> None:
        """Expect the row of a record, which this process has written as READY."""
        if record.extras is not None and record.extras.run_after is not None:
            with self._lock:
                heapq.heappush(self._moments, record.extras.run_after)
        elif record.task is not None and self._limits.is_limited(record.task):
            self.expect_limited()
        else:
            self.expect_rows()

    def expect_rows(self) -> None:
        """Expect rows without limits."""
        self._version += 1
        self.has_rows = True

    def expect_limited(self) -> None:
        """Expect rows with limits, for which there is room now."""
        self._has_limited = True

    def expect_limited_at(self, moment: float) -> None:
        """Expect rows with limits, for which there will be room at a moment in seconds since the epoch."""
        with self._lock:
            self._limited_at = min(self._limited_at, moment)

    def may_have_come(self) -> bool:
        """Return whether a claim may find rows now."""
        return self.has_rows or self._has_limited

    def seconds_until(self, now: float) -> float:
        """Return the seconds until the next expected moment, at least 0; infinity if there is none."""
        with self._lock:
            first = min(self._limited_at, self._moments[0] if self._moments else math.inf)
        return max(first - now, 0.0)

    def note_moments(self, now: float) -> None:
        """Expect the rows whose moments have come by `now`, in seconds since the epoch."""
        has_come = False
        with self._lock:
            while self._moments and self._moments[0] <= now:
                heapq.heappop(self._moments)
                has_come = True
            if self._limited_at <= now:
                self._limited_at = math.inf
                self._has_limited = True
        if has_come:
            self.expect_rows()

    def take(self) -> Expected:
        """Begin a claim, and return its expectations. Those that come during the claim are left to the next one."""
        version = self._version  # Read first: an expectation that comes now is not lost.
        expected = Expected(self.has_rows, self._has_limited or self.has_rows, version)
        self._has_limited = False
        return expected

    def settle(self, expected: Expected, is_left: bool) -> None:
        """
        End a claim.

        Args:
            is_left: whether rows without limits may still wait, since each free slot got one.
        """
        self.has_rows = is_left
        if expected.version != self._version:
            self.has_rows = True
