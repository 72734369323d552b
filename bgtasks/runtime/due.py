"""The moments at which something that waits for them in the table may start."""

from __future__ import annotations

import heapq
import math
import threading


class Due:
    """
    What this process has written to start later, so that it is claimed at its moment and not only at the next look.

    Moments only, in seconds since the epoch, for whichever row: another process may have been first. From any thread.
    """

    def __init__(self) -> None:
        self._moments: list[float] = []
        self._lock = threading.Lock()

    def add(self, moment: float) -> None:
        with self._lock:
            heapq.heappush(self._moments, moment)

    def seconds_until_next(self, now: float) -> float:
        """Return the seconds until the first moment, at least 0; infinity if there is none."""
        with self._lock:
            return max(self._moments[0] - now, 0.0) if self._moments else math.inf

    def take(self, now: float) -> bool:
        """Forget the moments that have come; tell whether there were any."""
        with self._lock:
            has_come = False
            while self._moments and self._moments[0] <= now:
                heapq.heappop(self._moments)
                has_come = True
            return has_come
