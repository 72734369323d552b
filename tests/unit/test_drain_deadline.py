"""The deadline of a drain."""

from __future__ import annotations

import pytest

from bgtasks.conf import Settings
from bgtasks.runtime.drain_deadline import find_deadline


@pytest.mark.parametrize(
    ("stop_asked_at", "drain_timeout", "deadline"),
    [
        (100.0, None, 128.0),  # Asked just now.
        (90.0, None, 118.0),  # Open requests took 10 s of the 20.
        (50.0, None, 108.0),  # They took more than all of it: the time to clean up is left.
        (100.0, 7.0, 115.0),
        (100.0, 0.0, 108.0),
    ],
)
def test_deadline_of_a_drain(stop_asked_at: float, drain_timeout: float | None, deadline: float) -> None:
    settings = Settings(drain_timeout=20, cancel_grace=5, flush_timeout=3)

    assert find_deadline(settings, stop_asked_at, now=100.0, drain_timeout=drain_timeout) == deadline
