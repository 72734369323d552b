"""
The current activity: running tasks against their usual durations, waiting tasks, processes, and the last 24 hours.

The cost does not grow with the number of finished rows, since ended tasks are read from the rollups.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Count, Q

from ..conf import Settings
from ..models import BackgroundTask, Process
from ..models.histogram import quantile
from ..models.moments import parse_moment, read_place
from ..status import Status
from . import rollups
from .processes import blocked_for, process_name, seconds_since
from .rollups import Total

MAX_COUNT = 10_000  # Running tasks, and waiting tasks: no more are counted.
MAX_NUMBER = 1e100  # JSON may hold numbers beyond every float.
HOUR, DAY = timedelta(hours=1), timedelta(hours=24)
NEEDED = ("statuses", "took")  # Of the rollups; each further histogram costs time.

FIELDS = (
    "id", "name", "status", "key", "attempt", "max_attempts", "process", "created_at", "started_at", "run_after",
    "stuck_after", "progress", "await_place", "fired_by", "cancel_requested_at",
)  # fmt: skip


@dataclass(frozen=True)
class Progress:
    """The progress that a task has reported."""

    done: float
    total: float | None
    note: str

    @property
    def part(self) -> float | None:
        """The part that is done, from 0 to 1; None if the total is unknown."""
        return min(self.done / self.total, 1.0) if self.total else None


@dataclass(frozen=True)
class LiveTask:
    """A task that runs or waits."""

    id: UUID
    name: str
    status: str
    key: str
    attempt: int
    elapsed: float  # Seconds since its attempt started; since it was fired, if it waits.
    p95: float | None  # Seconds: 95 % of the attempts of its function in the last 24 h took less. None: none ended.
    measured: int  # The number of these attempts.
    process: UUID | None
    process_name: str
    loop_blocked: float | None  # Seconds for which its event loop has not answered.
    progress: Progress | None
    await_place: dict[str, Any] | None  # {file, line, function, since}: of this attempt.
    awaits_for: float | None  # Seconds for which it has been at this place.
    fired_by: dict[str, Any] | None
    is_cancel_requested: bool

    @property
    def part_of_p95(self) -> float | None:
        return self.elapsed / self.p95 if self.p95 else None


@dataclass(frozen=True)
class Day:
    """How many tasks ended in the last 24 h, by status."""

    successful: int
    failed: int
    interrupted: int
    lost: int
    cancelled: int

    @property
    def failed_part(self) -> float | None:
        """The failed part of the tasks that succeeded or failed; None if there are none."""
        return self.failed / (self.successful + self.failed) if self.successful + self.failed else None


@dataclass(frozen=True)
class ProcessCounts:
    """How many processes are in which condition. The blocked and the draining ones count as alive too."""

    alive: int
    blocked: int
    draining: int
    silent: int  # Without a beat for DEAD_AFTER, and not declared dead yet.
    died: int  # In the last 24 h.


@dataclass(frozen=True)
class FunctionHour:
    """How the tasks of a name ended in the last hour."""

    name: str
    ended: int
    successful: int
    failed: int
    p50: float | None  # Seconds that the last attempts took.
    p95: float | None
    measured: int  # The number of these attempts.


@dataclass(frozen=True)
class Activity:
    at: datetime
    running_count: int  # Up to MAX_COUNT.
    waiting_count: int  # Up to MAX_COUNT.
    day: Day
    processes: ProcessCounts
    tasks: Sequence[LiveTask]
    functions: Sequence[FunctionHour]


def look(using: str, settings: Settings, now: datetime, limit: int) -> Activity:
    """Return the activity at the moment `now`, with up to `limit` tasks and functions. Seven queries at most."""
    day = rollups.total_by_name(rollups.read(using, rollups.find_resolution(DAY), now, DAY), NEEDED)
    live = BackgroundTask.objects.using(using)
    return Activity(
        now,
        _count(live.running()),
        _count(live.waiting()),
        _day_of(day.values()),
        count_processes(using, settings, now),
        live_tasks(using, now, limit, usual=day),
        functions_of_the_hour(using, now, limit),
    )


def live_tasks(
    using: str,
    now: datetime,
    limit: int,
    status: Status = Status.RUNNING,
    usual: Mapping[str, Total] | None = None,
) -> list[LiveTask]:
    """
    Return up to `limit` running, or waiting, tasks, in the order of their firing.

    Args:
        status: RUNNING or READY.
        usual: the totals of the last 24 h by name, if the caller has read them already.
    """
    found = find_live(using, status, limit)
    if not found:
        return []
    if usual is None:
        usual = rollups.total_by_name(rollups.read(using, rollups.find_resolution(DAY), now, DAY), NEEDED)
    owners = {task.process for task in found if task.process is not None}
    processes = Process.objects.using(using).defer("functions").in_bulk(owners)
    p95s = {name: quantile(usual[name].took, 0.95) for name in {task.name for task in found} if name in usual}
    return [
        _describe(task, processes.get(task.process), p95s.get(task.name), usual.get(task.name), now) for task in found
    ]


def find_live(using: str, status: Status, limit: int) -> list[BackgroundTask]:
    """Return the rows, with FIELDS, of up to `limit` running, or waiting, tasks, in the order of their firing."""
    rows = BackgroundTask.objects.using(using)
    rows = rows.running() if status is Status.RUNNING else rows.waiting()
    return list(rows.order_by("id").only(*FIELDS)[:limit])


def elapsed(task: BackgroundTask, now: datetime) -> float:
    """Return the seconds since the attempt of a task started; since it was fired, if it waits."""
    since = task.started_at if task.status == Status.RUNNING else None
    return seconds_since(since or task.created_at, now)


def awaits_for(place: dict[str, Any] | None, now: datetime) -> float | None:
    """Return the seconds for which a task has been at a place."""
    since = parse_moment(place["since"]) if place is not None else None
    return seconds_since(since, now) if since is not None else None


def count_processes(using: str, settings: Settings, now: datetime) -> ProcessCounts:
    heard = now - timedelta(seconds=settings.dead_after)
    is_up = Q(state__in=Process.UP)
    beats = is_up & (Q(beat_at__gte=heard) | Q(beat_at=None, started_at__gte=heard))
    since = now - DAY
    died = Q(state=Process.State.DEAD) & (Q(stopped_at__gt=since) | Q(stopped_at=None, started_at__gt=since))
    counts = Process.objects.using(using).aggregate(
        up=Count("pk", filter=is_up),
        alive=Count("pk", filter=beats),
        blocked=Count("pk", filter=beats & Q(blocked_since__isnull=False)),
        draining=Count("pk", filter=beats & Q(state=Process.State.DRAINING)),
        died=Count("pk", filter=died),
    )
    up = counts.pop("up")
    return ProcessCounts(**counts, silent=up - counts["alive"])


def functions_of_the_hour(using: str, now: datetime, limit: int) -> list[FunctionHour]:
    """Return how tasks ended in the last hour, for up to `limit` names, those with the most tasks first."""
    totals = rollups.total_by_name(rollups.read(using, rollups.find_resolution(HOUR), now, HOUR), NEEDED)
    ranked = sorted(totals.items(), key=lambda item: (-item[1].count, item[0]))
    return [
        FunctionHour(
            name,
            total.count,
            total.statuses[Status.SUCCESSFUL],
            total.statuses[Status.FAILED],
            quantile(total.took, 0.5),
            quantile(total.took, 0.95),
            total.measured,
        )
        for name, total in ranked[:limit]
    ]


def _count(rows: Any) -> int:
    return int(rows.order_by()[:MAX_COUNT].count())


def _day_of(totals: Iterable[Total]) -> Day:
    statuses: Counter[str] = Counter()
    for total in totals:
        statuses.update(total.statuses)
    ended = Status.SUCCESSFUL, Status.FAILED, Status.INTERRUPTED, Status.LOST, Status.CANCELLED
    return Day(*(statuses[status] for status in ended))


def _describe(
    task: BackgroundTask, process: Process | None, p95: float | None, usual: Total | None, now: datetime
) -> LiveTask:
    place = read_place(task.await_place, task.started_at) if task.status == Status.RUNNING else None
    return LiveTask(
        task.pk,
        task.name,
        task.status,
        task.key,
        task.attempt,
        elapsed(task, now),
        p95,
        usual.measured if usual is not None else 0,
        task.process,
        process_name(process),
        blocked_for(process, now),
        _read_progress(task.progress),
        place,
        awaits_for(place, now),
        task.fired_by if isinstance(task.fired_by, dict) else None,
        task.cancel_requested_at is not None,
    )


def _read_progress(stored: Any) -> Progress | None:
    """Read the progress of a row, whose content may be anything."""
    if not isinstance(stored, dict) or not _is_number(stored.get("done")):
        return None
    total = stored.get("total")
    return Progress(stored["done"], total if _is_number(total) else None, str(stored.get("note") or ""))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < MAX_NUMBER
