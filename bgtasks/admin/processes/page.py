"""What the page of one process shows of its tasks, its loop and its drains, as values for its template."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _

from ...conf import get_settings
from ...models import BackgroundTask, Drain, Process
from ...reports import rollups
from ...reports.rollups import Bucket
from ..overview import timeline_tasks
from ..pictures import sparkline, swimlanes
from ..pictures.sparkline import Course
from ..pictures.swimlanes import Lane, Mark, Scale
from ..shared.base import short_id
from ..shared.formats import duration, printable, split_name, write_moment
from ..shared.page import live_context
from .drain_page import draw_drain, tell_drain

if TYPE_CHECKING:
    from ..shared.base import ReadOnlyAdmin

MAX_LISTED = 50  # Tasks that run.
MAX_ENDED = 150  # Tasks that ended in the last minute: bars of the picture.
MAX_DRAINS = 10
HOUR = timedelta(minutes=60)
LEAST_LAG = 0.05  # Seconds that the upper edge of the lag stands for, at least.


def describe(process: Process, admin: ReadOnlyAdmin, request: HttpRequest) -> dict[str, Any]:
    using = str(process._state.db)
    now = timezone.now()
    is_up = process.state in Process.UP
    may_view_tasks = _may_view_tasks(request)
    return {
        **(live_context(is_moving=bool(process.running) and may_view_tasks) if is_up else {}),
        **({} if may_view_tasks else {"socket_path": ""}),  # It is for those who may.
        "is_up": is_up,
        "courses": list(_courses(using, process, now)),
        "drains": _describe_drains(using, process, admin),
        **(_describe_tasks(using, process, admin, now) if may_view_tasks else {}),
    }


def _may_view_tasks(request: HttpRequest) -> bool:
    return bool(request.user.has_perm("bgtasks.view_backgroundtask"))


# What it does.


def _describe_tasks(using: str, process: Process, admin: ReadOnlyAdmin, now: datetime) -> dict[str, Any]:
    """Return its running tasks, the oldest first, and the picture of the last minute. Two queries."""
    rows = BackgroundTask.objects.using(using).filter(process=process.pk)
    running = list(rows.running().order_by("id").values(*timeline_tasks.FIELDS, "attempt")[: MAX_LISTED + 1])
    ended: list[dict[str, Any]] = []
    if process.state in Process.UP:
        since = now - timedelta(seconds=timeline_tasks.SECONDS)
        ended = list(timeline_tasks.ended_since(rows, since).values(*timeline_tasks.FIELDS)[:MAX_ENDED])
    default = get_settings().stuck_after
    urls = {row["id"]: admin.page_of(BackgroundTask, row["id"]) for row in [*running, *ended]}
    return {
        "shows_tasks": True,
        "running": [_describe_running(row, urls[row["id"]], now) for row in running[:MAX_LISTED]],
        "are_more": len(running) > MAX_LISTED,
        "max_listed": MAX_LISTED,
        "lanes": _draw_lane(process, [*running, *ended], urls, default, now) if running or ended else [],
        "lanes_seconds": int(timeline_tasks.SECONDS),
        "lanes_half": int(timeline_tasks.SECONDS / 2),
    }


def _describe_running(row: Mapping[str, Any], url: str, now: datetime) -> dict[str, Any]:
    module, function = split_name(printable(row["name"]))
    started_at = row["started_at"]
    return {
        "url": url,
        "id": short_id(row["id"]),
        "module": module,
        "function": function,
        "elapsed": duration(max(now - started_at, timedelta(0))) if started_at is not None else "–",
        "since": write_moment(started_at),
        "attempt": row["attempt"],
    }


def _draw_lane(
    process: Process,
    rows: Sequence[Mapping[str, Any]],
    urls: Mapping[UUID, str],
    default: float | None,
    now: datetime,
) -> list[dict[str, Any]]:
    lane = Lane("", process.state, str(process.get_state_display()))
    tasks = [timeline_tasks.show(row, urls.__getitem__, default) for row in rows if row["started_at"] is not None]
    swimlanes.fill(lane, tasks, list(_marks(process)), Scale(now, timeline_tasks.SECONDS))
    running = lane.running_count
    text = _("%(running)s running, %(ended)s ended in the last minute")
    told = text % {"running": running, "ended": len(lane.bars) - running}
    return [timeline_tasks.describe_lane(lane, told, now)]


def _marks(process: Process) -> Iterator[Mark]:
    yield Mark("start", process.started_at, _("started"))
    if process.drain_requested_at:
        yield Mark("drain", process.drain_requested_at, _("asked to drain"))


# The last hour.


def _courses(using: str, process: Process, now: datetime) -> Iterator[Course]:
    """Yield what the rollups of this process tell. One query."""
    stretches = rollups.read(using, rollups.MINUTE, now, HOUR, [process.pk])
    if not stretches:
        return
    counts = finished_by_minute(process, stretches, now)
    measured = [count for count in counts if count is not None]
    whole = sum(measured)
    total = _("%(count)s in the last hour") % {"count": whole}
    most = _("at most %(count)s in a minute") % {"count": max(measured, default=0)}
    yield Course(_("Finished per minute"), sparkline.draw(counts, 1.0), total, most)
    by_minute = {stretch.starts_at: stretch.lag for stretch in stretches}
    lags = [by_minute.get(start) for start in _minutes(now)]
    picture = sparkline.draw(lags, LEAST_LAG)
    longest = max((lag for lag in lags if lag is not None), default=None)
    note = _("longest %(time)s") % {"time": duration(longest)}
    yield Course(_("Loop lag, longest of each minute"), picture, duration(picture.last), note)


def finished_by_minute(process: Process, stretches: Sequence[Bucket], now: datetime) -> list[int | None]:
    """Return how many of its tasks ended in each minute of the last hour; None before its start and after its end."""
    counts: Counter[datetime] = Counter()
    for stretch in stretches:
        if stretch.process == process.pk:
            counts[stretch.starts_at] += sum(sum(each["statuses"].values()) for each in stretch.tasks.values())
    until = now if process.state in Process.UP else process.stopped_at or process.beat_at or process.started_at
    since = process.started_at - timedelta(minutes=1)
    return [counts[start] if start in counts or since < start <= until else None for start in _minutes(now)]


def _minutes(now: datetime) -> list[datetime]:
    """Return the begins of the last 60 minutes, the one that has begun included, oldest first."""
    return [start for start, _total in rollups.total_by_bucket([], rollups.MINUTE, now, HOUR)]


def _describe_drains(using: str, process: Process, admin: ReadOnlyAdmin) -> list[dict[str, Any]]:
    drains = Drain.objects.using(using).filter(process=process.pk).order_by("-id")[:MAX_DRAINS]
    return [
        {
            "at": write_moment(drain.started_at),
            "url": admin.page_of(Drain, drain.pk),
            "words": tell_drain(drain),
            "picture": draw_drain(drain),
        }
        for drain in drains
    ]
