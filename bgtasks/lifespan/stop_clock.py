"""The stop clock: the moment at which the process was asked to stop, which comes before "lifespan.shutdown"."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import time
from collections.abc import Callable
from contextvars import Context
from functools import partial
from typing import Any


class StopClock:
    """
    Notes when SIGTERM or SIGINT arrives.

    The server sends "lifespan.shutdown" only after open requests have ended, while the platform that will kill the
    process counts from the signal. The server's own handlers are called as before.

    Args:
        when_asked: is called once, on the loop, when the process is asked to stop.
    """

    def __init__(self, when_asked: Callable[[], None]) -> None:
        self._when_asked = when_asked
        self._asked_at: float | None = None
        self._wrapped: dict[int, tuple[Any, Any]] = {}  # Our handler and the server's, by the signal's number.

    @property
    def stop_asked_at(self) -> float:
        """The moment of the signal, or now without one, as `time.monotonic()` counts."""
        return time.monotonic() if self._asked_at is None else self._asked_at

    def install(self) -> None:
        """Wrap the server's signal handlers. Called on the server's loop."""
        self._loop = asyncio.get_running_loop()
        if threading.current_thread() is not threading.main_thread():
            return  # Python lets only the main thread set handlers; the clock then starts at "lifespan.shutdown".
        for number in (signal.SIGTERM, signal.SIGINT):
            previous = signal.getsignal(number)
            if callable(previous):
                noting = partial(self._note_signal, previous)
                signal.signal(number, noting)
                self._wrapped[number] = (noting, previous)

    def remove(self) -> None:
        """Give the server its handlers back, unless another library has wrapped ours meanwhile."""
        for number, (noting, previous) in self._wrapped.items():
            if signal.getsignal(number) is noting:
                signal.signal(number, previous)

    def note(self) -> None:
        """Note that the process is asked to stop now. Called from a signal handler or on the loop."""
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            with contextlib.suppress(RuntimeError):  # The loop may be closed by now.
                self._loop.call_soon_threadsafe(self._when_asked, context=Context())

    def _note_signal(self, previous: Callable[[int, Any], Any], number: int, frame: Any) -> None:
        self.note()
        previous(number, frame)
