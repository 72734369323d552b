"""The rows behind the overview, each read once."""

from __future__ import annotations

from datetime import datetime

from ...models import BackgroundTask, Drain, Process, Rollup
from ...reports import rollups
from ..shared.paginator import count_up_to
from ..shared.recent_totals import HOUR, add_up_last, days, totals_of_windows, week

MAX_COUNT = 9999  # Of waiting and of running tasks: no more are counted.
MAX_PROCESSES = 30
MAX_DRAINS = 8


class Readings:
    """
    The rows of one request.

    Attributes:
        totals: the tasks that ended in each window, added up by function.
        processes: the newest ones, up or not.
        up: all of these that are up, and older ones.
        drains: the newest ones, of any process.
        waiting, running: numbers of tasks; MAX_COUNT + 1 if there are more.
    """

    def __init__(self, using: str, now: datetime) -> None:
        self.now = now
        self.using = using
        self.minutes = rollups.read(using, rollups.MINUTE, now, HOUR)
        self.half_hours = days.get(using)
        self.two_hours = week.get(using)
        self.totals = {**totals_of_windows.get(using), HOUR: add_up_last(self.minutes, now, HOUR)}
        processes = Process.objects.using(using).defer("functions")
        self.processes = list(processes.order_by("-pk")[:MAX_PROCESSES])
        older = processes.filter(state__in=Process.UP).exclude(pk__in=[p.pk for p in self.processes])
        newest_up = [process for process in self.processes if process.state in Process.UP]
        self.up = [*newest_up, *older.order_by("-pk")[:MAX_PROCESSES]]
        self.drains = list(Drain.objects.using(using).order_by("-pk")[:MAX_DRAINS])
        live = BackgroundTask.objects.using(using)
        self.waiting = count_up_to(MAX_COUNT + 1, live.waiting())
        self.running = count_up_to(MAX_COUNT + 1, live.running())

    def buckets(self, resolution: Rollup.Resolution) -> list[rollups.Bucket]:
        by_resolution = {
            rollups.MINUTE: self.minutes,
            rollups.HALF_HOUR: self.half_hours,
            rollups.TWO_HOURS: self.two_hours,
        }
        return by_resolution[resolution]
