"""The totals of the last 7 days by function. Several pages use them, so they are cached for some seconds."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from django.utils import timezone
from django.utils.translation import gettext_lazy

from ...reports import rollups
from .cache import TimedCache

HOUR, DAY, WEEK = timedelta(hours=1), timedelta(hours=24), timedelta(days=7)
WINDOWS = (  # Label, length, and value of `FiredFilter`.
    (gettext_lazy("1 h"), HOUR, "hour"),
    (gettext_lazy("3 h"), timedelta(hours=3), "3hours"),
    (gettext_lazy("24 h"), DAY, "day"),
    (gettext_lazy("3 d"), timedelta(days=3), "3days"),
    (gettext_lazy("7 d"), WEEK, "week"),
)

Totals = dict[str, rollups.Total]


def _read_days(using: str) -> list[rollups.Bucket]:
    return rollups.read(using, rollups.HALF_HOUR, timezone.now(), timedelta(days=3))


def _read_week(using: str) -> list[rollups.Bucket]:
    return rollups.read(using, rollups.TWO_HOURS, timezone.now(), WEEK)


def _add_up_week(using: str) -> Totals:
    return rollups.total_by_name(week.get(using), ("statuses", "took", "failed"))


def _add_up_windows(using: str) -> dict[timedelta, Totals]:
    now = timezone.now()
    by_resolution = {
        rollups.MINUTE: rollups.read(using, rollups.MINUTE, now, timedelta(hours=3)),
        rollups.HALF_HOUR: days.get(using),
        rollups.TWO_HOURS: week.get(using),
    }
    return {
        length: add_up_last(by_resolution[rollups.find_resolution(length)], now, length)
        for _label, length, _value in WINDOWS
    }


def add_up_last(buckets: Sequence[rollups.Bucket], now: datetime, length: timedelta) -> Totals:
    """Return the totals of each function in a window that ends now. Its first bucket may begin before the window."""
    since = now - length - timedelta(seconds=rollups.find_resolution(length))
    return rollups.total_by_name((each for each in buckets if each.starts_at > since), ("statuses",))


days = TimedCache(10.0, _read_days)  # Some hundred rows for each process.
week = TimedCache(30.0, _read_week)
totals_of_week = TimedCache(30.0, _add_up_week)  # Up to a minute old, with the age of `week`.
totals_of_windows = TimedCache(10.0, _add_up_windows)
