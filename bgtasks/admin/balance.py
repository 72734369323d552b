"""The balance of the ledger, as the overview shows it: counted at most once a minute in a process."""

from __future__ import annotations

import threading
import time

from ..conf import get_settings
from ..maintenance.audit import Auditor

FRESH = 60.0  # Seconds. Counting a million rows takes a tenth of a second.

_lock = threading.Lock()
_known: tuple[float, int] | None = None  # When it was counted, as `time.monotonic()` counts, and what came of it.


def read_known() -> int | None:
    """Return how many tasks were unaccounted for within the last minute; None if nobody has counted since."""
    return _known[1] if _known is not None and time.monotonic() - _known[0] < FRESH else None


def read(using: str) -> int:
    """Return how many tasks are unaccounted for; count, if that was not done within the last minute."""
    global _known
    with _lock:  # Several pages may ask at once.
        unaccounted = read_known()
        if unaccounted is None:
            unaccounted = Auditor(using, get_settings()).balance().unaccounted
            _known = (time.monotonic(), unaccounted)
    return unaccounted
