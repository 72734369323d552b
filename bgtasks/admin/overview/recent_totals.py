"""The last 7 days, added up by function: what several pages need, and what changes little within some seconds."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from django.utils import timezone
from django.utils.translation import gettext_lazy

from ...reports import rollups
from ..shared.cache import Kept

HOUR, DAY, WEEK = timedelta(hours=1), timedelta(hours=24), timedelta(days=7)
WINDOWS = (  # Label, length, and the value of the list's filter that a click leads to.
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
    stretches = {
        rollups.MINUTE: rollups.read(using, rollups.MINUTE, now, timedelta(hours=3)),
        rollups.HALF_HOUR: days.get(using),
        rollups.TWO_HOURS: week.get(using),
    }
    return {
        length: add_up_last(stretches[rollups.find_resolution(length)], now, length)
        for _label, length, _value in WINDOWS
    }


def add_up_last(stretches: Sequence[rollups.Bucket], now: datetime, length: timedelta) -> Totals:
    """Return what became of the tasks of each function in a window, the first stretch of which it may cut."""
    since = now - length - timedelta(seconds=rollups.find_resolution(length))
    return rollups.total_by_name((each for each in stretches if each.starts_at > since), ("statuses",))


days = Kept(10.0, _read_days)  # These have some hundred rows for each process.
week = Kept(30.0, _read_week)
totals_of_week = Kept(30.0, _add_up_week)  # So up to a minute old.
totals_of_windows = Kept(10.0, _add_up_windows)
