"""Moments as the commands print them; the examples in the module show the rest."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from bgtasks.management.formats import format_age, format_moment


@pytest.mark.parametrize(
    ("moment", "written"),
    [
        (datetime(2026, 3, 1, 9, 30, tzinfo=UTC), "2026-03-01 18:30:00"),
        (datetime(2026, 3, 1, 9, 30), "2026-03-01 09:30:00"),  # As with USE_TZ=False.
    ],
)
def test_a_moment_is_written_in_local_time(moment: datetime, written: str) -> None:
    with timezone.override("Asia/Tokyo"):
        assert format_moment(moment) == written


def test_an_age_is_never_negative_and_may_be_unknown() -> None:
    ahead = timezone.now() + timedelta(hours=1)

    assert (format_age(ahead), format_age(None)) == ("0 ms", "–")
