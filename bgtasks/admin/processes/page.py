"""The tasks, the loop and the drains on the page of one process, as values for its template."""

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
from ..pictures import sparkline, swimlanes
from ..pictures.swimlanes import Scale, Swimlane
from ..shared.base import short_id
from ..shared.courses import Course, draw_seconds
from ..shared.formats import printable, split_name, time_since, write_moment
from ..shared.page import live_context
from . import last_minute
from .drain_page import describe_drain, describe_line

if TYPE_CHECKING:
    from ..shared.base import ReadOnlyAdmin

MAX_LISTED = 50  # Running tasks.
MAX_ENDED = 150  # Tasks that ended in the last minute, as bars of the picture.
MAX_DRAINS = 10
HOUR = timedelta(minutes=60)


def describe(process: Process, admin: ReadOnlyAdmin, request: HttpRequest) -> dict[str, Any]:
    using = str(process._state.db)
    now = timezone.now()
    is_up = process.state in Process.UP
    may_view_tasks = _may_view_tasks(request)
    return {
        **(live_context(is_moving=bool(process.running) and may_view_tasks) if is_up else {}),
        **({} if may_view_tasks else {"socket_path": ""}),  # The socket is for users who may view tasks.
        "is_up": is_up,
        "courses": list(_courses(using, process, now)),
        "drains": _describe_drains(using, process, admin),
        **(_describe_tasks(using, process, admin, now) if may_view_tasks else {}),
    }


def _may_view_tasks(request: HttpRequest) -> bool:
    return bool(request.user.has_perm("bgtasks.view_backgroundtask"))


# Its tasks.


def _describe_tasks(using: str, process: Process, admin: ReadOnlyAdmin, now: datetime) -> dict[str, Any]:
    """Return the running tasks, oldest first, and the picture of the last minute. Two queries."""
    rows = BackgroundTask.objects.using(using).filter(process=process.pk)
    running = list(rows.running().order_by("id").values(*last_minute.FIELDS, "attempt")[: MAX_LISTED + 1])
    ended: list[dict[str, Any]] = []
    if process.state in Process.UP:
        since = now - timedelta(seconds=last_minute.SECONDS)
        ended = list(last_minute.ended_since(rows, since).values(*last_minute.FIELDS)[:MAX_ENDED])
    default = get_settings().stuck_after
    urls = {row["id"]: admin.page_of(BackgroundTask, row["id"]) for row in [*running, *ended]}
    return {
        "shows_tasks": True,
        "running": [_describe_running(row, urls[row["id"]], now) for row in running[:MAX_LISTED]],
        "are_more": len(running) > MAX_LISTED,
        "max_listed": MAX_LISTED,
        **_draw_swimlane(process, [*running, *ended], urls, default, now),
    }


def _describe_running(row: Mapping[str, Any], url: str, now: datetime) -> dict[str, Any]:
    module, function = split_name(printable(row["name"]))
    started_at = row["started_at"]
    return {
        "url": url,
        "id": short_id(row["id"]),
        "module": module,
        "function": function,
        "elapsed": time_since(started_at, now) if started_at is not None else "–",
        "since": write_moment(started_at),
        "attempt": row["attempt"],
    }


def _draw_swimlane(
    process: Process,
    rows: Sequence[Mapping[str, Any]],
    urls: Mapping[UUID, str],
    default: float | None,
    now: datetime,
) -> dict[str, Any]:
    swimlane = Swimlane("", process.state, str(process.get_state_display()))
    tasks = [last_minute.show(row, urls.__getitem__, default) for row in rows if row["started_at"] is not None]
    swimlanes.fill(swimlane, tasks, list(last_minute.find_marks(process)), Scale(now, last_minute.SECONDS))
    running = swimlane.running_count
    text = _("%(running)s running, %(ended)s ended in the last minute")
    text %= {"running": running, "ended": len(swimlane.bars) - running}
    return last_minute.describe_swimlanes([(swimlane, text)] if rows else [], now)


# Its last hour.


def _courses(using: str, process: Process, now: datetime) -> Iterator[Course]:
    """Yield the courses of the last hour, from the rollups of this process. One query."""
    buckets = rollups.read(using, rollups.MINUTE, now, HOUR, [process.pk])
    if not buckets:
        return
    counts = finished_by_minute(process, buckets, now)
    measured = [count for count in counts if count is not None]
    whole = sum(measured)
    total = _("%(count)s in the last hour") % {"count": whole}
    most = _("at most %(count)s in a minute") % {"count": max(measured, default=0)}
    yield Course(_("Finished per minute"), sparkline.draw(counts, 1.0), total, most)
    by_minute = {bucket.starts_at: bucket.lag for bucket in buckets}
    yield draw_seconds(_("Loop lag, longest of each minute"), [by_minute.get(start) for start in _minutes(now)])


def finished_by_minute(process: Process, buckets: Sequence[Bucket], now: datetime) -> list[int | None]:
    """Return the number of tasks that ended in each minute of the last hour; None for minutes without the process."""
    counts: Counter[datetime] = Counter()
    for bucket in buckets:
        if bucket.process == process.pk:
            counts[bucket.starts_at] += sum(sum(each["statuses"].values()) for each in bucket.tasks.values())
    until = now if process.state in Process.UP else process.stopped_at or process.beat_at or process.started_at
    since = process.started_at - timedelta(minutes=1)
    return [counts[start] if start in counts or since < start <= until else None for start in _minutes(now)]


def _minutes(now: datetime) -> list[datetime]:
    """Return the starts of the last 60 minutes, oldest first, with the current minute."""
    return [start for start, _total in rollups.total_by_bucket([], rollups.MINUTE, now, HOUR)]


def _describe_drains(using: str, process: Process, admin: ReadOnlyAdmin) -> list[dict[str, Any]]:
    drains = Drain.objects.using(using).filter(process=process.pk).order_by("-id")[:MAX_DRAINS]
    return [describe_line(drain, describe_drain(drain), admin) for drain in drains]
