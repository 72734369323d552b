"""The tasks that ended in each interval of an hour, a day or a week, and how long tasks waited in the last hour."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ...models import Rollup
from ...models.histogram import quantile
from ...reports import rollups
from ...reports.rollups import Total
from ..pictures import columns
from ..pictures.columns import Column
from ..shared.courses import Course, draw_seconds
from ..shared.formats import write_minute
from ..shared.recent_totals import DAY, HOUR, WEEK
from .readings import Readings

if TYPE_CHECKING:
    from ..shared.base import ReadOnlyAdmin

SPANS = {
    "hour": (HOUR, rollups.MINUTE, gettext_lazy("60 minutes")),
    "day": (DAY, rollups.HALF_HOUR, gettext_lazy("24 hours")),
    "week": (WEEK, rollups.TWO_HOURS, gettext_lazy("7 days")),
}


def describe_throughput(admin: ReadOnlyAdmin, readings: Readings, chosen: str) -> dict[str, Any]:
    """
    Return the columns of a span with their legend.

    Args:
        chosen: a name of SPANS; any other one stands for the hour.
    """
    chosen = chosen if chosen in SPANS else "hour"
    span, resolution, _label = SPANS[chosen]
    totals = rollups.total_by_bucket(readings.buckets(resolution), resolution, readings.now, span, ("statuses",))
    drawn, top = columns.draw(totals)
    whole = Total()
    for _start, total in totals:
        whole.statuses.update(total.statuses)
    return {
        "columns": [_describe_column(admin, column, resolution) for column in drawn],
        "columns_top": top,
        "columns_sums": [(s, s.label, whole.statuses[s]) for s in columns.ORDER if whole.statuses[s]],
        "columns_from": write_minute(totals[0][0]) if totals else "",
        "spans": [(name, label, name == chosen) for name, (_length, _resolution, label) in SPANS.items()],
    }


def _describe_column(admin: ReadOnlyAdmin, column: Column, resolution: Rollup.Resolution) -> dict[str, Any]:
    start, end = column.starts_at, column.starts_at + timedelta(seconds=resolution)
    parts = ", ".join(f"{part.count} {part.status.label}" for part in column.parts)
    url = admin.tasks_url(finished=f"{int(start.timestamp())}-{int(end.timestamp())}") if column.count else ""
    return {
        "x": column.x,
        "width": column.width,
        "parts": column.parts,
        "text": f"{write_minute(start)}: {parts or _('nothing ended')}",
        "url": url,
    }


def find_courses(readings: Readings) -> Iterator[Course]:
    """Yield the courses of the wait for a slot and of the loop lag in the last hour."""
    totals = rollups.total_by_bucket(readings.minutes, rollups.MINUTE, readings.now, HOUR, ("waited",))
    waits = [quantile(total.waited, 0.95) for _start, total in totals]
    yield draw_seconds(_("Wait for a slot, p95 of each minute"), waits)
    lags: dict[datetime, float] = {}
    for bucket in readings.minutes:
        if bucket.lag is not None:
            lags[bucket.starts_at] = max(bucket.lag, lags.get(bucket.starts_at, 0.0))
    yield draw_seconds(_("Loop lag, longest of each minute"), [lags.get(start) for start, _total in totals])
