"""A stretch: how long a thread has kept the interpreter from the event loop."""

from __future__ import annotations

import time

LONGEST = 0.0005  # Seconds of the processor.


class Stretch:
    """
    One thread's, from one wait to the next.

    A loop that waits for the interpreter gets it after 5 ms (`sys.getswitchinterval`), or when a thread lets go of it.
    A turn takes 0.08 ms, even if nobody wants it: with one after every 16 rows, a hundred callers of `afire` got a
    quarter fewer answers. docs/performance.md has what it does for the loop's lag.
    """

    def __init__(self) -> None:
        self._began = 0.0

    def begin(self) -> None:
        """Say that the thread has just waited: for a lock, or for the database."""
        self._began = time.thread_time()

    def look(self) -> None:
        """Give the event loop its turn where the stretch is long."""
        if time.thread_time() - self._began > LONGEST:
            time.sleep(0)
            self._began = time.thread_time()
