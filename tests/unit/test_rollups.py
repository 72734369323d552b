from __future__ import annotations

from datetime import UTC, datetime, timedelta

from django.test import override_settings

from bgtasks.models import Rollup
from bgtasks.models.moments import to_datetime
from bgtasks.reports.rollups import total_by_bucket


def test_periods_before_a_change_of_the_clocks_are_found_with_naive_moments() -> None:
    """In New York the clocks changed on 2026-03-08: in local time the periods of two hours start at other hours."""
    now = datetime(2026, 3, 10, 12, 34, tzinfo=UTC)
    with override_settings(USE_TZ=False, TIME_ZONE="America/New_York"):
        totals = total_by_bucket([], Rollup.Resolution.TWO_HOURS, local(now), timedelta(days=7))
        starts = [start for start, _ in totals]

        assert starts[-1] == local(datetime(2026, 3, 10, 12, tzinfo=UTC))
        assert starts[0] == local(datetime(2026, 3, 3, 14, tzinfo=UTC))


def local(moment: datetime) -> datetime:
    return to_datetime(moment.timestamp())
