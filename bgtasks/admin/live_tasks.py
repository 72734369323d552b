"""The live page: running and waiting tasks, their elapsed times beside the p95 of their functions, and their awaits."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.translation import gettext as _

from ..conf import get_settings
from ..models import BackgroundTask, LiveTask, Process
from ..models.histogram import quantile
from ..models.moments import read_place
from ..reports.activity import awaits_for, elapsed, find_live
from ..reports.rollups import Total
from ..status import LIVE, Status
from .pictures.elapsed import draw
from .shared.base import find_processes, label_of, short_id
from .shared.fired_by import request_line
from .shared.formats import duration, parse_uuid, printable, split_name, write_moment
from .shared.page import PageAdmin, live_context
from .shared.paginator import count_up_to
from .shared.recent_totals import totals_of_week
from .tasks.actions import TaskActions
from .tasks.progress import describe_progress

MAX_SHOWN = 100  # Of each kind.
MAX_COUNT = 9999
PATIENCE = 2.0  # Seconds for which "cancel and fire again" waits for the end of the cancelled tasks.
CHECK_EVERY = 0.1  # Seconds.


@admin.register(LiveTask)
class LiveTaskAdmin(PageAdmin):
    template = "admin/bgtasks/live.html"

    def describe(self, request: HttpRequest) -> dict[str, Any]:
        now = timezone.now()
        rows = BackgroundTask.objects.using(self.using)
        running = find_live(self.using, Status.RUNNING, MAX_SHOWN)
        waiting = find_live(self.using, Status.READY, MAX_SHOWN)
        found = find_processes(task.process for task in [*running, *waiting])
        week = totals_of_week.get(self.using)
        may_cancel = self._may_cancel(request)
        return {
            **live_context(is_moving=bool(running)),
            "running": [self._line(task, found, week, now) for task in running],
            "waiting": [self._line(task, found, week, now) for task in waiting],
            "running_count": self._count(running, rows.running()),
            "waiting_count": self._count(waiting, rows.waiting()),
            "max_shown": MAX_SHOWN,
            "may_cancel": may_cancel,
            "may_fire": may_cancel and request.user.has_perm("bgtasks.fire_task"),
            "list_url": self.list_of(BackgroundTask),
        }

    def get_urls(self) -> list[URLPattern]:
        return [
            path("act/", self.admin_site.admin_view(self.act_view), name="bgtasks_livetask_act"),
            *super().get_urls(),
        ]

    def act_view(self, request: HttpRequest) -> HttpResponse:
        """Run the action of a button on the selected tasks, or on the task of its row."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        action, _colon, one = request.POST.get("do", "").partition(":")
        fires_again = action == "again"
        may = self.has_view_permission(request) and self._may_cancel(request)
        if not may or (fires_again and not request.user.has_perm("bgtasks.fire_task")):
            raise PermissionDenied
        tasks = self._find([one] if one else request.POST.getlist("task"))
        actions = self.admin_site.get_model_admin(BackgroundTask)
        if action not in ("cancel", "again") or not tasks:
            self.message_user(request, _("No task was chosen. Nothing was done."), messages.WARNING)
        elif isinstance(actions, TaskActions):
            actions.cancel(request, tasks)
            if fires_again:
                self._wait_for_end([task.pk for task in tasks])
                actions.fire_again(request, tasks)
        return HttpResponseRedirect(self.list_of(LiveTask))

    def _find(self, texts: list[str]) -> list[BackgroundTask]:
        ids = [task_id for text in texts if (task_id := parse_uuid(text)) is not None]
        rows = BackgroundTask.objects.using(self.using).filter(pk__in=ids[: 2 * MAX_SHOWN])
        return list(rows.only("id", "name").order_by("pk"))

    def _wait_for_end(self, ids: list[UUID]) -> None:
        """Wait for the end of tasks, within limits. Firing a live task again is refused later, with a message."""
        live = BackgroundTask.objects.using(self.using).filter(pk__in=ids, status__in=sorted(LIVE))
        until = time.monotonic() + PATIENCE + get_settings().poll_interval
        while live.exists() and time.monotonic() < until:
            time.sleep(CHECK_EVERY)

    @staticmethod
    def _may_cancel(request: HttpRequest) -> bool:
        return bool(request.user.has_perm("bgtasks.cancel_task"))

    @staticmethod
    def _count(shown: list[BackgroundTask], rows: Any) -> str:
        if len(shown) < MAX_SHOWN:
            return str(len(shown))
        count = count_up_to(MAX_COUNT + 1, rows)
        return f"{MAX_COUNT}+" if count > MAX_COUNT else str(count)

    def _line(
        self, task: BackgroundTask, found: dict[UUID, Process], week: dict[str, Total], now: datetime
    ) -> dict[str, Any]:
        module, function = split_name(task.name)
        took = week[task.name].took if task.name in week else {}
        seconds = elapsed(task, now)
        threshold = task.stuck_after if task.stuck_after is not None else get_settings().stuck_after
        p95 = quantile(took, 0.95)
        is_running = task.status == Status.RUNNING
        return {
            "id": task.pk,
            "short_id": short_id(task.pk),
            "module": module,
            "function": function,
            "key": task.key,
            "url": self.page_of(BackgroundTask, task.pk),
            "fired_at": write_moment(task.created_at),
            "fired_by": request_line(task.fired_by),
            "process": label_of(task.process, found),
            "process_url": self.page_of(Process, task.process) if task.process in found else "",
            "elapsed": duration(seconds),
            "picture": draw(seconds, p95, threshold) if is_running else None,
            "p95": duration(p95) if p95 is not None else "",
            "measured": sum(took.values()),
            "due_in": duration(task.run_after - now) if task.run_after and task.run_after > now else "",
            "attempt": f"{task.attempt}/{task.max_attempts}" if task.attempt > 1 else "",
            "progress": describe_progress(task) if is_running else None,
            "place": _place(task, now) if is_running else None,
            "is_asked": task.cancel_requested_at is not None,
        }


def _place(task: BackgroundTask, now: datetime) -> dict[str, str] | None:
    """Return the place at which a task awaits, and the time it has been there."""
    place = read_place(task.await_place, task.started_at)
    if place is None:
        return None
    seconds = awaits_for(place, now)
    return {
        "function": printable(place.get("function") or "")[:200],
        "at": f"{printable(place.get('file') or '')[-120:]}:{printable(place.get('line') or '')[:10]}",
        "since": duration(seconds) if seconds is not None else "–",
    }
