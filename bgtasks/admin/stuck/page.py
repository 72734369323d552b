"""The page of stuck tasks: the reason why each is stuck, and its outlook."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils import timezone
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from ...conf import Settings, get_settings
from ...models import BackgroundTask, Process, StuckTask
from ...models.moments import parse_moment
from ...operations.rescue_by_hand import background_watch
from ...reports.stuck import Finder
from ...reports.stuck import StuckTask as Stuck
from ...status import Status
from ...transitions import JUDGED
from ..shared.base import label_of, short_id
from ..shared.formats import duration, printable, split_name, time_since, write_moment
from ..shared.page import live_context
from .actions import StuckActions
from .outlook import Around, foresee

MAX_SHOWN = 200  # Tasks on the page.
MAX_PLACE = 300  # Characters of a file's or a function's name.
KINDS = ("process", "running", "waiting")  # The order on the page.


@admin.register(StuckTask)
class StuckAdmin(StuckActions):
    template = "admin/bgtasks/stuck.html"

    class Media:
        css = {"all": ["bgtasks/pictures.css", "bgtasks/processes.css"]}

    def describe(self, request: HttpRequest) -> dict[str, Any]:
        now, settings = timezone.now(), get_settings()
        found = Finder(self.using, settings, now).find()
        found.sort(key=lambda task: (KINDS.index(task.kind), -task.age))
        shown = found[:MAX_SHOWN]
        around = Around(now, settings, self.read_processes(task.process for task in shown))
        rows = BackgroundTask.objects.using(self.using).filter(pk__in=[task.id for task in shown])
        by_id = {row["id"]: row for row in rows.order_by().values(*JUDGED)}
        return {
            **live_context(is_moving=False),
            "socket_path": "",  # A task becomes stuck by time, without a change that could be pushed.
            "tasks": [self._describe_task(request, task, by_id[task.id], around) for task in shown if task.id in by_id],
            "hidden_count": len(found) - len(shown),
            "may_apply": self.has_apply_permission(request),
            "may_cancel": self.has_cancel_permission(request),
            "apply_url": self.action_url("apply"),
            "cancel_url": self.action_url("cancel"),
            "rules": list(_rules(settings)),
        }

    def _describe_task(
        self, request: HttpRequest, task: Stuck, row: Mapping[str, Any], around: Around
    ) -> dict[str, Any]:
        process = around.processes.get(task.process) if task.process is not None else None
        module, function = split_name(printable(task.name))
        may_view_process = process is not None and request.user.has_perm("bgtasks.view_process")
        return {
            "id": task.id,
            "short_id": short_id(task.id),
            "url": self.page_of(BackgroundTask, task.id),
            "module": module,
            "function": function,
            "status": task.status,
            "label": Status(task.status).label,
            "reason": capfirst(task.reason.localize()),
            "since": write_moment(around.now - timedelta(seconds=task.age)),
            "age": duration(task.age),
            "place": _describe_place(task.await_place, around.now),
            "blocked": duration(task.loop_blocked) if task.loop_blocked is not None else "",
            "process": label_of(task.process, dict(around.processes)) if task.process is not None else "",
            "process_url": self.page_of(Process, task.process) if may_view_process else "",
            "outlook": foresee(task, row, process, around),
            "can_apply": task.kind == "process" and not background_watch.is_requested(task.process, task.id),
            "can_cancel": row["cancel_requested_at"] is None,
        }


def _rules(settings: Settings) -> Iterator[str]:
    """Yield the conditions under which a task is stuck."""
    yield _("Its process has ended, or has not beaten for %(time)s.") % {"time": duration(settings.dead_after)}
    if settings.stuck_after is not None:
        text = _("It runs for longer than its stuck_after, or %(time)s where it has none.")
        yield text % {"time": duration(settings.stuck_after)}
    else:
        yield _("It runs for longer than its stuck_after; STUCK_AFTER, for those without one, is not set.")
    yield _("It ignores its cancellation.")
    yield _("It waits for longer than %(time)s.") % {"time": duration(settings.stuck_waiting_after)}


def _describe_place(place: Any, now: datetime) -> dict[str, str] | None:
    if not isinstance(place, dict):
        return None
    since = parse_moment(place.get("since"))
    return {
        "file": printable(place.get("file", ""))[-MAX_PLACE:],
        "line": printable(place.get("line", ""))[:20],
        "function": printable(place.get("function", ""))[:MAX_PLACE],
        "since": write_moment(since) if since is not None else "",
        "age": time_since(since, now) if since is not None else "",
    }
