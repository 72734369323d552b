"""The event loop's turn: the journal's thread offers it after it has kept the interpreter for long."""

from __future__ import annotations

import time

LONGEST = 0.0005  # Seconds of processor time.


class LoopTurn:
    """
    Measures how long one thread keeps the interpreter, from one wait to the next, and yields to the event loop.

    A loop that waits for the interpreter gets it after 5 ms (`sys.getswitchinterval`), or when a thread releases it.
    Releasing it takes 0.08 ms even if no loop waits: with a release after every 16 rows, a hundred callers of `afire`
    got a quarter fewer answers. docs/performance.md has the effect on the loop's lag.
    """

    def __init__(self) -> None:
        self._began = 0.0

    def restart(self) -> None:
        """Restart the measurement, after the thread has waited for a lock or for the database."""
        self._began = time.thread_time()

    def offer(self) -> None:
        """Release the interpreter for a moment if the thread has kept it for longer than LONGEST."""
        if time.thread_time() - self._began > LONGEST:
            time.sleep(0)
            self._began = time.thread_time()
