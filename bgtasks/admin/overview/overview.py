"""The overview: whether all is well, as tiles and pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ...conf import get_settings
from ...definition import declared
from ...models import BackgroundTask, Drain, Ledger, Overview, Process, Rollup
from ...models.histogram import quantile
from ...reports import rollups
from ...reports.audit import Auditor
from ...reports.rollups import Total
from ...status import UNSUCCESSFUL, Status
from ..pictures import columns, lifespans, sparkline, swimlanes
from ..pictures.sparkline import Course
from ..pictures.swimlanes import Lane, Mark, Scale, Shown
from ..processes.drain_page import draw_drain
from ..processes.no_drain import describe_processes_without_drain
from ..shared.cache import Kept
from ..shared.formats import duration, number, percent, split_name, write_moment
from ..shared.page import PageAdmin, live_context
from ..shared.paginator import count_up_to
from . import timeline_tasks
from .banners import find_banners
from .duration_card import describe_durations
from .recent_totals import DAY, HOUR, WEEK, WINDOWS, add_up_last, days, totals_of_week, totals_of_windows, week

MAX_ON_TILE = 9999
MAX_LANES = 8
MAX_BARS = 400  # Tasks that are read for the lanes: the newest, and the oldest that run.
MAX_FUNCTIONS = 12  # With a histogram.
MAX_LIVES = 30
MAX_DRAINS = 3

SPANS = {
    "hour": (HOUR, gettext_lazy("60 minutes")),
    "day": (DAY, gettext_lazy("24 hours")),
    "week": (WEEK, gettext_lazy("7 days")),
}


@dataclass(frozen=True)
class Tile:
    name: str
    label: str
    value: str
    note: str = ""
    url: str = ""
    kind: str = ""  # "alarm" or "warning", or none.


def _count_unaccounted(using: str) -> int:
    return Auditor(using, get_settings()).balance().unaccounted


unaccounted = Kept(60.0, _count_unaccounted)  # It counts all rows: a million takes a tenth of a second.


class Readings:
    """What the page is made of, each part read once."""

    def __init__(self, using: str, now: datetime) -> None:
        self.now = now
        self.using = using
        self.minutes = rollups.read(using, rollups.MINUTE, now, HOUR)
        self.half_hours = days.get(using)
        self.two_hours = week.get(using)
        self.totals = {**totals_of_windows.get(using), HOUR: add_up_last(self.minutes, now, HOUR)}
        processes = Process.objects.using(using).defer("functions")
        self.processes = list(processes.order_by("-pk")[:MAX_LIVES])
        up = processes.filter(state__in=Process.UP).exclude(pk__in=[p.pk for p in self.processes])
        self.up = [*(each for each in self.processes if each.state in Process.UP), *up.order_by("-pk")[:MAX_LIVES]]
        self.drains = list(Drain.objects.using(using).order_by("-pk")[:MAX_LANES])
        live = BackgroundTask.objects.using(using)
        self.waiting = count_up_to(MAX_ON_TILE + 1, live.waiting())
        self.running = count_up_to(MAX_ON_TILE + 1, live.running())

    def stretches(self, resolution: Rollup.Resolution) -> list[rollups.Bucket]:
        by_resolution = {
            rollups.MINUTE: self.minutes,
            rollups.HALF_HOUR: self.half_hours,
            rollups.TWO_HOURS: self.two_hours,
        }
        return by_resolution[resolution]


@admin.register(Overview)
class OverviewAdmin(PageAdmin):
    template = "admin/bgtasks/overview.html"

    def describe(self, request: HttpRequest) -> dict[str, Any]:
        now = timezone.now()
        readings = Readings(self.using, now)
        span = request.GET.get("span", "hour")
        span = span if span in SPANS else "hour"
        return {
            **live_context(is_moving=bool(readings.running)),
            "now": write_moment(now),
            "no_drain": describe_processes_without_drain(self, request),
            "banners": list(find_banners(self, self.using, readings.up, now)),
            "tiles": list(self._tiles(readings)),
            "lanes": [timeline_tasks.describe_lane(lane, _lane_text(lane), now) for lane in self._lanes(readings)],
            "lanes_seconds": int(timeline_tasks.SECONDS),
            "lanes_half": int(timeline_tasks.SECONDS / 2),
            **self._ledger_of(request),
            **self._throughput(readings, span),
            "failures": list(self._failures(readings)),
            "windows": [label for label, _length, _value in WINDOWS],
            "functions": list(self._functions(totals_of_week.get(self.using))),
            "courses": list(self._courses(readings)),
            "lives": self._lives(readings),
            "drains": list(self._drains(readings)),
        }

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.unaccounted_view)
        return [path("unaccounted/", view, name="bgtasks_overview_unaccounted"), *super().get_urls()]

    def unaccounted_view(self, request: HttpRequest) -> HttpResponse:
        """Answer what the tile asks for once the page is there: the balance counts all rows."""
        if not request.user.has_perm("bgtasks.view_ledger"):
            raise PermissionDenied
        context = {"unaccounted": unaccounted.get(self.using)}
        return TemplateResponse(request, "bgtasks/admin/unaccounted.html", context)

    def _ledger_of(self, request: HttpRequest) -> dict[str, Any]:
        if not request.user.has_perm("bgtasks.view_ledger"):
            return {}
        url = reverse("admin:bgtasks_overview_unaccounted", current_app=self.admin_site.name)
        return {
            "ledger_url": self.list_of(Ledger),
            "unaccounted_url": url,
            "unaccounted": unaccounted.get_known(self.using),
        }

    # Tiles.

    def _tiles(self, readings: Readings) -> Iterator[Tile]:
        day: Counter[str] = sum((total.statuses for total in readings.totals[DAY].values()), Counter())
        ok, failed, cut, lost = (day[s] for s in (Status.SUCCESSFUL, Status.FAILED, Status.INTERRUPTED, Status.LOST))
        rate = _("%(rate)s of what ran") % {"rate": percent(failed / (ok + failed))} if failed else ""
        yield Tile("running", _("Running"), capped(readings.running), url=self.tasks_url(show="running"))
        yield Tile("waiting", _("Waiting"), capped(readings.waiting), url=self.tasks_url(show="waiting"))
        yield Tile("successful", _("Succeeded, 24 h"), number(ok), url=self.tasks_url(status="SUCCESSFUL", fired="day"))
        yield Tile(
            "failed",
            _("Failed, 24 h"),
            number(failed),
            rate,
            self.tasks_url(status="FAILED", fired="day"),
            "alarm" if failed else "",
        )
        yield Tile(
            "lost",
            _("Interrupted and lost, 24 h"),
            number(cut + lost),
            _("%(cut)s interrupted, %(lost)s lost") % {"cut": cut, "lost": lost} if cut + lost else "",
            self.tasks_url(show="failed", fired="day"),
            "warning" if cut + lost else "",
        )
        yield self._processes_tile(readings)

    def _processes_tile(self, readings: Readings) -> Tile:
        draining = sum(process.state == Process.State.DRAINING for process in readings.up)
        blocked = sum(process.blocked_since is not None for process in readings.up)
        day_ago = readings.now - timedelta(hours=24)
        dead = sum(
            process.state == Process.State.DEAD and (process.stopped_at or process.started_at) > day_ago
            for process in readings.processes
        )
        parts = [
            (blocked, _("%(count)s blocked")),
            (draining, _("%(count)s draining")),
            (dead, _("%(count)s died in 24 h")),
        ]
        note = ", ".join(text % {"count": count} for count, text in parts if count)
        kind = "alarm" if blocked or dead else ""
        return Tile("processes", _("Processes alive"), f"{len(readings.up)}", note, self.list_of(Process), kind)

    # Pictures.

    def _lanes(self, readings: Readings) -> list[Lane]:
        scale = Scale(readings.now, timeline_tasks.SECONDS)
        since = readings.now - timedelta(seconds=timeline_tasks.SECONDS)
        tasks = self._tasks_for_lanes(readings, since)
        shown = [*readings.up, *(each for each in readings.processes if _ended_after(each, since))][:MAX_LANES]
        deploys = {new.pk for new, old in pairwise(readings.processes) if new.release != old.release}
        found = []
        for process in shown:
            label, url = f"{process.host}:{process.pid}", self.page_of(Process, process.pk)
            lane = Lane(label, process.state, process.get_state_display(), url)
            swimlanes.fill(
                lane,
                tasks.get(process.pk, []),
                list(_marks(process, readings.drains, is_deploy=process.pk in deploys)),
                scale,
            )
            found.append(lane)
        return found

    def _tasks_for_lanes(self, readings: Readings, since: datetime) -> dict[Any, list[Shown]]:
        """Return the tasks of the minute by their process. Two queries, neither of more rows than can be drawn."""
        rows = BackgroundTask.objects.using(self.using)
        oldest = rows.running().order_by("id").values(*timeline_tasks.FIELDS)[:MAX_BARS]
        newest = timeline_tasks.ended_since(rows, since).values(*timeline_tasks.FIELDS)[:MAX_BARS]
        default = get_settings().stuck_after
        found: dict[Any, list[Shown]] = {}
        for row in [*oldest, *newest]:
            if row["started_at"] is not None:
                task = timeline_tasks.show(row, lambda id_: self.page_of(BackgroundTask, id_), default)
                found.setdefault(row["process"], []).append(task)
        return found

    def _throughput(self, readings: Readings, chosen: str) -> dict[str, Any]:
        span, _label = SPANS[chosen]
        resolution = {"hour": rollups.MINUTE, "day": rollups.HALF_HOUR, "week": rollups.TWO_HOURS}[chosen]
        totals = rollups.total_by_bucket(readings.stretches(resolution), resolution, readings.now, span, ("statuses",))
        drawn, top = columns.draw(totals)
        sums: Total = Total()
        for _start, total in totals:
            sums.statuses.update(total.statuses)
        return {
            "columns": [
                {
                    "x": column.x,
                    "width": column.width,
                    "parts": column.parts,
                    "text": _column_text(column),
                    "url": self._column_url(column, resolution),
                }
                for column in drawn
            ],
            "columns_top": top,
            "columns_sums": [(s, s.label, sums.statuses[s]) for s in columns.ORDER if sums.statuses[s]],
            "columns_count": sums.count,
            "columns_from": write_moment(totals[0][0])[:16] if totals else "",
            "spans": [(name, label, name == chosen) for name, (_length, label) in SPANS.items()],
        }

    def _column_url(self, column: columns.Column, resolution: Rollup.Resolution) -> str:
        if not column.count:
            return ""
        until = column.starts_at + timedelta(seconds=resolution)
        return self.tasks_url(finished=f"{int(column.starts_at.timestamp())}-{int(until.timestamp())}")

    def _failures(self, readings: Readings) -> Iterator[dict[str, Any]]:
        """Yield a line for each function with failures: how many in each window, the worst first."""
        counts: dict[str, list[int]] = {}
        for index, (_label, length, _value) in enumerate(WINDOWS):
            for name, total in readings.totals[length].items():
                failed = sum(total.statuses[status] for status in UNSUCCESSFUL)
                if failed:
                    counts.setdefault(name, [0] * len(WINDOWS))[index] = failed
        ranked = sorted(counts.items(), key=lambda item: item[1][::-1], reverse=True)
        for name, numbers in ranked[:MAX_FUNCTIONS]:
            module, function = split_name(name)
            yield {
                "module": module,
                "function": function,
                "url": self.tasks_url(show="failed", name=name),
                "cells": [
                    {"count": count, "url": self.tasks_url(show="failed", name=name, fired=value) if count else ""}
                    for count, (_label, _length, value) in zip(numbers, WINDOWS, strict=True)
                ],
            }

    def _functions(self, totals: dict[str, Total]) -> Iterator[dict[str, Any]]:
        ranked = sorted(totals.items(), key=lambda item: item[1].measured, reverse=True)
        for name, total in ranked[:MAX_FUNCTIONS]:
            if not total.measured:
                continue
            module, function = split_name(name)
            yield {
                "module": module,
                "function": function,
                "url": self.tasks_url(name=name),
                **describe_durations(total, declared.get(name)),
            }

    def _courses(self, readings: Readings) -> Iterator[Course]:
        totals = rollups.total_by_bucket(readings.minutes, rollups.MINUTE, readings.now, HOUR, ("waited",))
        waits = [quantile(total.waited, 0.95) for _start, total in totals]
        yield _course(_("Wait for a slot, p95 of each minute"), waits, 0.05)
        lags: dict[datetime, float] = {}
        for stretch in readings.minutes:
            if stretch.lag is not None:
                lags[stretch.starts_at] = max(stretch.lag, lags.get(stretch.starts_at, 0.0))
        yield _course(_("Loop lag, longest of each minute"), [lags.get(start) for start, _total in totals], 0.05)

    def _drains(self, readings: Readings) -> Iterator[dict[str, Any]]:
        for drain in readings.drains[:MAX_DRAINS]:
            counts = {
                "finished": drain.finished_count,
                "cancelled": drain.cancelled_count,
                "left": drain.left_count,
                "time": duration(drain.seconds),
            }
            words = _("%(time)s: %(finished)s finished in time, %(cancelled)s cut short, %(left)s left")
            yield {
                "at": write_moment(drain.started_at),
                "url": self.page_of(Drain, drain.pk),
                "words": words % counts,
                "picture": draw_drain(drain),
            }

    def _lives(self, readings: Readings) -> dict[str, Any]:
        shown = list({process.pk: process for process in [*readings.up, *readings.processes]}.values())[:MAX_LIVES]
        oldest = min((process.started_at for process in shown), default=readings.now)
        age = (readings.now - oldest).total_seconds()
        seconds = min(max(age * 1.02, 600.0), 7 * 86400.0)
        scale = Scale(readings.now, seconds)
        since = readings.now - timedelta(seconds=seconds)
        drawn = lifespans.draw(
            [
                (process, f"{process.host}:{process.pid}", self.page_of(Process, process.pk))
                for process in sorted(shown, key=lambda process: process.started_at)
                if process.state in Process.UP or (process.stopped_at or process.started_at) >= since
            ],
            scale,
        )
        return {"drawn": drawn, "since": write_moment(since)[:16], "has_deaths": any(each.died_x for each in drawn)}


def _lane_text(lane: Lane) -> str:
    text = _("%(process)s, %(state)s: %(running)s running, %(ended)s ended in the last minute")
    running = lane.running_count
    names = {"process": lane.label, "state": lane.state_label}
    return text % {**names, "running": running, "ended": len(lane.bars) - running}


def capped(count: int) -> str:
    return f"{number(MAX_ON_TILE)}+" if count > MAX_ON_TILE else number(count)


def _course(label: str, values: Sequence[float | None], floor: float) -> Course:
    picture = sparkline.draw(values, floor)
    measured = [value for value in values if value is not None]
    note = _("longest %(time)s") % {"time": duration(max(measured, default=None))}
    return Course(label, picture, duration(picture.last), note)


def _column_text(column: columns.Column) -> str:
    parts = ", ".join(f"{part.count} {part.status.label}" for part in column.parts)
    return f"{write_moment(column.starts_at)[:16]}: {parts or _('nothing ended')}"


def _ended_after(process: Process, since: datetime) -> bool:
    return process.state not in Process.UP and (process.stopped_at or process.started_at) >= since


def _marks(process: Process, drains: Sequence[Drain], is_deploy: bool) -> Iterator[Mark]:
    if is_deploy and process.release:
        yield Mark("deploy", process.started_at, _("release %(release)s") % {"release": process.release})
    else:
        yield Mark("start", process.started_at, _("started"))
    for drain in drains:
        if drain.process == process.pk:
            yield Mark("drain", drain.started_at, _("drain"))
    if process.drain_requested_at and process.state in Process.UP:
        yield Mark("drain", process.drain_requested_at, _("asked to drain"))
    if process.state == Process.State.DEAD and process.stopped_at:
        yield Mark("end", process.stopped_at, _("declared dead"))
