"""Task functions: the list of those that this process knows, and the page of one, where it can be fired."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.translation import gettext as _

from ...definition import Task, declared
from ...journal.tally import OTHERS
from ...models import BackgroundTask, TaskFunction, histogram
from ...models.control import find_paused
from ...reports.rollups import Total
from ...status import UNSUCCESSFUL, Status
from ..shared.base import Fact, breakable
from ..shared.formats import number, split_name, write_minute
from ..shared.page import live_context
from ..shared.recent_totals import WINDOWS, totals_of_week, totals_of_windows
from ..tasks.neighbours import find_strip, function_url
from .declaration import describe_definition, describe_facts, describe_options, describe_verdict, first_doc_line
from .duration_card import describe_durations
from .fire_form import FireForm, describe_errors
from .firing import FunctionFiring
from .pausing import FunctionPausing, name_in

MAX_UNKNOWN = 50  # Names that only the rollups have. Each coroutine object may have one of its own.
MAX_NAMES = 5  # Of a function whose last tasks are shown: its own and the first aliases.


@admin.register(TaskFunction)
class TaskFunctionAdmin(FunctionFiring, FunctionPausing):
    template = "admin/bgtasks/functions.html"
    function_template = "admin/bgtasks/function.html"

    class Media:
        css = {"all": ["bgtasks/task.css"]}

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            *super().get_urls(),
            path("function/", view(self.function_view), name="bgtasks_taskfunction_function"),
            path("function/pause/", view(self.pause_view), name="bgtasks_taskfunction_pause"),
            path("function/resume/", view(self.resume_view), name="bgtasks_taskfunction_resume"),
        ]

    # The list.

    def describe(self, request: HttpRequest) -> dict[str, Any]:
        totals = totals_of_week.get(self.using)
        paused, paused_queues = find_paused(self.using)
        tasks = {task.name: task for task in declared.values()}
        of_known = {name: add_up(totals, task.names) for name, task in sorted(tasks.items())}
        names = sorted(totals.keys() - declared.keys() - {OTHERS}, key=lambda name: (-totals[name].count, name))
        of_unknown = {name: totals[name] for name in names[:MAX_UNKNOWN]}
        failed = self._find_last_failed([*of_known.values(), *of_unknown.values()])
        known = [
            self._card(name, tasks[name], total, failed) | _describe_pause(tasks[name], paused, paused_queues)
            for name, total in of_known.items()
        ]
        unknown = [self._card(name, None, total, failed) for name, total in of_unknown.items()]
        return {"functions": known, "unknown": unknown, "hidden_count": len(names) - len(unknown)}

    def _card(
        self, name: str, task: Task[..., Any] | None, total: Total, failed: Mapping[str, BackgroundTask]
    ) -> dict[str, Any]:
        module, function = split_name(name)
        return {
            "function": breakable(function),
            "module": breakable(module),
            "url": function_url(name, self),
            "is_declared": task is not None,
            "doc_line": first_doc_line(task),
            "options": list(describe_options(task)) if task is not None else [],
            "verdict": describe_verdict(task),
            "numbers": list(self._numbers(name, total)),
            "durations": describe_durations(total, task) if total.measured else None,
            "failed": self._describe_failed(failed.get(total.failed)),
        }

    def _numbers(self, name: str, total: Total) -> Iterator[Fact]:
        def url(**filters: str) -> str:
            return self.tasks_url(name=name, fired="week", **filters)

        ok = total.statuses[Status.SUCCESSFUL]
        failed = sum(total.statuses[status] for status in UNSUCCESSFUL)
        yield Fact(_("ended"), number(total.count), url=url() if total.count else "")
        yield Fact(_("ok"), number(ok), url=url(status="SUCCESSFUL") if ok else "")
        yield Fact(_("failed"), number(failed), "alarm" if failed else "", url(show="failed") if failed else "")

    def _find_last_failed(self, totals: Iterable[Total]) -> dict[str, BackgroundTask]:
        """Return the last failed tasks of these totals by id, if their rows still exist. One query."""
        rows = BackgroundTask.objects.using(self.using).only("status", "error_type", "finished_at")
        return {str(pk): task for pk, task in rows.in_bulk({total.failed for total in totals if total.failed}).items()}

    def _describe_failed(self, failed: BackgroundTask | None) -> dict[str, Any] | None:
        if failed is None:
            return None
        return {
            "url": self.page_of(BackgroundTask, failed.pk),
            "status": failed.status,
            "label": failed.get_status_display(),
            "error": failed.error_type.rpartition(".")[2],
            "at": write_minute(failed.finished_at),
        }

    # The page of one.

    def function_view(self, request: HttpRequest) -> HttpResponse:
        """Show a function; a POST fires it."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if request.method not in ("GET", "HEAD", "POST"):
            return HttpResponseNotAllowed(["GET", "HEAD", "POST"])
        name = name_in(request.GET)
        task = declared.get(name)
        form = self._make_form(request, task)
        if task is not None and form is not None and form.is_bound and form.is_valid():
            response = self.fire(request, task, form)
            if response is not None:
                return response
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "media": self.media,
            # A page with a form does not refresh, since that would discard the input.
            **(live_context(is_moving=False) if form is None else {}),
            **self._describe_function(request, name, task, form),
        }
        return TemplateResponse(request, self.function_template, context)

    def _make_form(self, request: HttpRequest, task: Task[..., Any] | None) -> FireForm | None:
        """Return the form, bound to a POST; None for an unknown function or a user without the permission to fire."""
        may_fire = self.has_fire_permission(request)
        if request.method != "POST":
            return FireForm(task) if task is not None and may_fire else None
        if not may_fire:
            raise PermissionDenied
        if task is None:
            raise Http404("No function here is called so.")
        return FireForm(task, request.POST)

    def _describe_function(
        self, request: HttpRequest, name: str, task: Task[..., Any] | None, form: FireForm | None
    ) -> dict[str, Any]:
        names = task.names if task is not None else (name,)
        total = add_up(totals_of_week.get(self.using), names)
        strip = find_strip(self.using, names[:MAX_NAMES], self, timezone.now())
        if task is None and not strip["strip_bars"] and not total.count:
            raise Http404("No function is called so, and no task was.")
        shown = task.name if task is not None else name
        paused, paused_queues = find_paused(self.using)
        return {
            "title": shown,
            "card": self._card(shown, task, total, self._find_last_failed([total])),
            "name": shown,
            "name_parts": breakable(shown),
            "tasks_url": self.tasks_url(name=shown),
            "windows": list(self._windows(name, names)),
            "may_pause": request.user.has_perm("bgtasks.add_pause"),
            "may_resume": request.user.has_perm("bgtasks.delete_pause"),
            **_describe_form(form),
            **(_describe_task(task, paused, paused_queues) if task is not None else {"is_paused": name in paused}),
            **strip,
        }

    def _windows(self, name: str, names: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Yield the number of failed tasks and of all ended tasks in each window."""
        totals = totals_of_windows.get(self.using)
        for label, length, value in WINDOWS:
            total = add_up(totals[length], names)
            count = sum(total.statuses[status] for status in UNSUCCESSFUL)
            url = self.tasks_url(name=name, show="failed", fired=value) if count else ""
            yield {"label": label, "count": count, "ended": total.count, "url": url}


def add_up(totals: dict[str, Total], names: Iterable[str]) -> Total:
    """Return the total of all names of a function."""
    whole = Total()
    for name in names:
        if (total := totals.get(name)) is not None:
            whole.statuses.update(total.statuses)
            histogram.add(whole.took, total.took)
            histogram.add(whole.waited, total.waited)
            whole.failed = max(whole.failed, total.failed)
    return whole


def _describe_task(task: Task[..., Any], paused: frozenset[str], queues: frozenset[str]) -> dict[str, Any]:
    return {
        "doc": inspect.cleandoc(task.__doc__ or ""),
        "facts": list(describe_facts(task)),
        "signature": describe_definition(task),
        **_describe_pause(task, paused, queues),
    }


def _describe_pause(task: Task[..., Any], paused: frozenset[str], queues: frozenset[str]) -> dict[str, Any]:
    return {
        "is_paused": task.name in paused,
        "paused_queue": task.options.queue if task.options.queue in queues else "",
    }


def _describe_form(form: FireForm | None) -> dict[str, Any]:
    return {
        "form": form,
        "form_errors": list(describe_errors(form)) if form is not None and form.is_bound else [],
        "time_zone": timezone.get_current_timezone_name(),
    }
