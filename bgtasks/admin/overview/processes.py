"""The processes on the overview: their tasks in the last minute, their lifespans, and the last drains."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _

from ...conf import get_settings
from ...models import BackgroundTask, Process
from ..pictures import lifespans, swimlanes
from ..pictures.swimlanes import Scale, Swimlane, SwimlaneTask
from ..processes import last_minute
from ..processes.drain_page import describe_line
from ..shared.formats import duration, write_minute
from .readings import MAX_PROCESSES, Readings

if TYPE_CHECKING:
    from ..shared.base import ReadOnlyAdmin

MAX_SWIMLANES = 8
MAX_BARS = 400  # Tasks read for the swimlanes: the newest ended ones, and as many of the oldest running ones.
MAX_DRAINS = 3
SHORTEST, LONGEST = 600.0, 7 * 86400.0  # Seconds on the scale of the lifespans.


def describe_swimlanes(admin: ReadOnlyAdmin, readings: Readings) -> dict[str, Any]:
    drawn = _draw_swimlanes(admin, readings)
    return last_minute.describe_swimlanes([(swimlane, _swimlane_text(swimlane)) for swimlane in drawn], readings.now)


def _draw_swimlanes(admin: ReadOnlyAdmin, readings: Readings) -> Iterator[Swimlane]:
    scale = Scale(readings.now, last_minute.SECONDS)
    since = readings.now - timedelta(seconds=last_minute.SECONDS)
    tasks = _find_tasks(admin, readings, since)
    shown = [*readings.up, *(each for each in readings.processes if _ended_since(each, since))][:MAX_SWIMLANES]
    deploys = {new.pk for new, old in pairwise(readings.processes) if new.release != old.release}
    for process in shown:
        label, url = f"{process.host}:{process.pid}", admin.page_of(Process, process.pk)
        swimlane = Swimlane(label, process.state, process.get_state_display(), url)
        marks = last_minute.find_marks(process, readings.drains, is_deploy=process.pk in deploys)
        swimlanes.fill(swimlane, tasks.get(process.pk, []), list(marks), scale)
        yield swimlane


def _find_tasks(admin: ReadOnlyAdmin, readings: Readings, since: datetime) -> dict[Any, list[SwimlaneTask]]:
    """Return the tasks of the last minute by their process. Two queries, each of MAX_BARS rows at most."""
    rows = BackgroundTask.objects.using(readings.using)
    oldest = rows.running().order_by("id").values(*last_minute.FIELDS)[:MAX_BARS]
    newest = last_minute.ended_since(rows, since).values(*last_minute.FIELDS)[:MAX_BARS]
    default = get_settings().stuck_after
    found: dict[Any, list[SwimlaneTask]] = {}
    for row in [*oldest, *newest]:
        if row["started_at"] is not None:
            task = last_minute.show(row, lambda id_: admin.page_of(BackgroundTask, id_), default)
            found.setdefault(row["process"], []).append(task)
    return found


def _swimlane_text(swimlane: Swimlane) -> str:
    text = _("%(process)s, %(state)s: %(running)s running, %(ended)s ended in the last minute")
    running = swimlane.running_count
    names = {"process": swimlane.label, "state": swimlane.state_label}
    return text % {**names, "running": running, "ended": len(swimlane.bars) - running}


def _ended_since(process: Process, since: datetime) -> bool:
    return process.state not in Process.UP and (process.stopped_at or process.started_at) >= since


def describe_lifespans(admin: ReadOnlyAdmin, readings: Readings) -> dict[str, Any]:
    """Return the lifespans of processes, the first started at the top, on a scale that holds the oldest of them."""
    shown = list({process.pk: process for process in [*readings.up, *readings.processes]}.values())[:MAX_PROCESSES]
    oldest = min((process.started_at for process in shown), default=readings.now)
    age = (readings.now - oldest).total_seconds()
    seconds = min(max(age * 1.02, SHORTEST), LONGEST)
    since = readings.now - timedelta(seconds=seconds)
    drawn = lifespans.draw(
        [
            (process, f"{process.host}:{process.pid}", admin.page_of(Process, process.pk))
            for process in sorted(shown, key=lambda process: process.started_at)
            if process.state in Process.UP or _ended_since(process, since)
        ],
        Scale(readings.now, seconds),
    )
    return {"drawn": drawn, "since": write_minute(since)}


def describe_drains(admin: ReadOnlyAdmin, readings: Readings) -> Iterator[dict[str, Any]]:
    for drain in readings.drains[:MAX_DRAINS]:
        words = _("%(time)s: %(finished)s finished in time, %(cancelled)s cut short, %(left)s left")
        counts = {
            "finished": drain.finished_count,
            "cancelled": drain.cancelled_count,
            "left": drain.left_count,
            "time": duration(drain.seconds),
        }
        yield describe_line(drain, words % counts, admin)
