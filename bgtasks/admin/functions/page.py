"""Task functions: all that this process knows, what came of each, and the page of one, from which it can be fired."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.translation import gettext as _

from ...api import fire
from ...definition import DEFAULTS, MAX_NAME_LENGTH, Task, declared
from ...exceptions import BgTasksError, KeyConflict
from ...failure import storable
from ...journal.tally import OTHERS
from ...models import BackgroundTask, Pause, TaskFunction, histogram
from ...models.control import find_paused
from ...operations import pauses
from ...reports.rollups import Total
from ...status import UNSUCCESSFUL, Status
from ..overview.duration_card import describe_durations
from ..overview.recent_totals import WINDOWS, totals_of_week, totals_of_windows
from ..shared.base import Fact, breakable
from ..shared.formats import cut, duration, number, printable, split_name, write_moment
from ..shared.page import PageAdmin, live_context
from ..tasks.neighbours import find_strip, function_url
from .fire_form import FireForm, describe_signature, tell_errors

MAX_UNKNOWN = 50  # Names in the rollups that are not declared here; coroutine objects may each have one of their own.
MAX_NAMES = 5  # Of a function whose last tasks are shown: its own and the first aliases.
MAX_OPTION = 100  # Characters of an option's value.
MAX_DOC_LINE = 160
WHY_FIRED = "fired in the admin"  # For the history, which is not translated.


@admin.register(TaskFunction)
class TaskFunctionAdmin(PageAdmin):
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

    # All of them.

    def describe(self, request: HttpRequest) -> dict[str, Any]:
        totals = totals_of_week.get(self.using)
        paused, paused_queues = find_paused(self.using)
        tasks = {task.name: task for task in declared.values()}
        of_known = {name: add_up(totals, task.names) for name, task in sorted(tasks.items())}
        names = sorted(totals.keys() - declared.keys() - {OTHERS}, key=lambda name: (-totals[name].count, name))
        of_unknown = {name: totals[name] for name in names[:MAX_UNKNOWN]}
        failed = self._find_last_failed([*of_known.values(), *of_unknown.values()])
        known = [
            self._card(name, tasks[name], total, failed) | _paused_words(tasks[name], paused, paused_queues)
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
            "doc_line": _doc_line(task),
            "options": list(tell_options(task)) if task is not None else [],
            "verdict": _verdict(task),
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
        """Return the tasks that these totals name, by id, as far as they are there. One query."""
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
            "at": write_moment(failed.finished_at)[:16],
        }

    # One of them.

    def function_view(self, request: HttpRequest) -> HttpResponse:
        """Show a function; a POST fires it."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if request.method not in ("GET", "HEAD", "POST"):
            return HttpResponseNotAllowed(["GET", "HEAD", "POST"])
        name = _name_in(request.GET)
        task = declared.get(name)
        form = None
        if request.method == "POST":
            if not self._may_fire(request):
                raise PermissionDenied
            if task is None:
                raise Http404("No function here is called so.")
            form = FireForm(task, request.POST)
            if form.is_valid() and (answer := self._fire(request, task, form)) is not None:
                return answer
        elif task is not None and self._may_fire(request):
            form = FireForm(task)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "media": self.media,
            # With a form it does not refresh, which would take away what is typed in.
            **(live_context(is_moving=False) if form is None else {}),
            **self._describe_function(request, name, task, form),
        }
        return TemplateResponse(request, self.function_template, context)

    def _describe_function(
        self, request: HttpRequest, name: str, task: Task[..., Any] | None, form: FireForm | None
    ) -> dict[str, Any]:
        names = task.names if task is not None else (name,)
        now = timezone.now()
        total = add_up(totals_of_week.get(self.using), names)
        strip = find_strip(self.using, names[:MAX_NAMES], self, now)
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
            "doc": inspect.cleandoc(task.__doc__ or "") if task is not None else "",
            "facts": list(_facts(task)) if task is not None else [],
            "signature": _signature(task) if task is not None else "",
            "windows": list(self._windows(name, names)),
            "may_pause": request.user.has_perm("bgtasks.add_pause"),
            "may_resume": request.user.has_perm("bgtasks.delete_pause"),
            "form": form,
            "form_errors": list(tell_errors(form)) if form is not None and form.is_bound else [],
            "time_zone": timezone.get_current_timezone_name(),
            **(_paused_words(task, paused, paused_queues) if task is not None else {"is_paused": name in paused}),
            **strip,
        }

    def _windows(self, name: str, names: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Yield how many failed in each window, of how many that ended."""
        totals = totals_of_windows.get(self.using)
        for label, length, value in WINDOWS:
            total = add_up(totals[length], names)
            count = sum(total.statuses[status] for status in UNSUCCESSFUL)
            url = self.tasks_url(name=name, show="failed", fired=value) if count else ""
            yield {"label": label, "count": count, "ended": total.count, "url": url}

    def _may_fire(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("bgtasks.fire_task"))

    def _fire(self, request: HttpRequest, task: Task[..., Any], form: FireForm) -> HttpResponse | None:
        """Fire it as sync code does; None if it cannot be, which the form then says."""
        args, kwargs = form.arguments()
        with transaction.atomic(using=self.using):
            try:
                # In this transaction whatever it declares: so its row is there before the browser asks for its page.
                handle = fire(task.using(fire_on_commit=True), *args, **kwargs)
                handle.status  # noqa: B018  # Raises, if another task has its key.
            except KeyConflict as conflict:
                text = _("Not fired: another task has the key %(key)s. This is its page.")
                self.message_user(request, text % {"key": conflict.key}, messages.WARNING)
                return HttpResponseRedirect(self.page_of(BackgroundTask, conflict.id))
            except (TypeError, ValueError, BgTasksError) as error:
                form.add_error(None, storable(str(error)))
                return None
            is_there = self._sign(request, handle.id)
            row = BackgroundTask(pk=handle.id, name=task.name)
            self.log_addition(request, row, _("Fired in the admin."))
        if not is_there:
            text = _("Fired %(name)s as %(id)s. It is being recorded: look for it in a moment.")
            self.message_user(request, text % {"name": task.name, "id": handle.id}, messages.SUCCESS)
            return HttpResponseRedirect(function_url(task.name, self))
        self.message_user(request, _("Fired %(name)s.") % {"name": task.name}, messages.SUCCESS)
        return HttpResponseRedirect(self.page_of(BackgroundTask, handle.id))

    def _sign(self, request: HttpRequest, task_id: UUID) -> bool:
        """Note in the row who fired it; tell whether the row is there."""
        rows = BackgroundTask.objects.using(self.using).filter(pk=task_id)
        found = rows.values_list("transitions", flat=True).first()
        if found is None:
            return False
        history = [{**found[0], "by": _who(request), "why": WHY_FIRED}, *found[1:]]
        return bool(rows.update(transitions=history, fired_by=_fired_by(request)))

    # Pausing it, and having it go on.

    def pause_view(self, request: HttpRequest) -> HttpResponse:
        task = declared.get(self._name_to_change(request, "bgtasks.add_pause"))
        if task is None:
            raise Http404("No function here is called so.")
        kind = Pause.Kind.FUNCTION
        with transaction.atomic(using=self.using):
            if pauses.pause(self.using, kind, [task.name], str(request.user)[:200]):
                row = Pause.objects.using(self.using).get(kind=kind, name=task.name)
                self.log_addition(request, row, _("Paused."))
        text = _("Paused %(name)s: what runs goes on, and what waits or is fired waits until it is resumed.")
        self.message_user(request, text % {"name": task.name}, messages.SUCCESS)
        return HttpResponseRedirect(function_url(task.name, self))

    def resume_view(self, request: HttpRequest) -> HttpResponse:
        name = self._name_to_change(request, "bgtasks.delete_pause")
        kind = Pause.Kind.FUNCTION
        with transaction.atomic(using=self.using):
            self.log_deletions(request, Pause.objects.using(self.using).filter(kind=kind, name=name))
            pauses.resume(self.using, kind, [name])
        self.message_user(request, _("Resumed %(name)s.") % {"name": name}, messages.SUCCESS)
        return HttpResponseRedirect(function_url(name, self))

    def _name_to_change(self, request: HttpRequest, permission: str) -> str:
        if not (self.has_view_permission(request) and request.user.has_perm(permission)):
            raise PermissionDenied
        if request.method != "POST":
            raise Http404("This address takes a POST.")
        return _name_in(request.POST)


def add_up(totals: dict[str, Total], names: Iterable[str]) -> Total:
    """Return what became of all names of a function together."""
    whole = Total()
    for name in names:
        if (total := totals.get(name)) is not None:
            whole.statuses.update(total.statuses)
            histogram.add(whole.took, total.took)
            histogram.add(whole.waited, total.waited)
            whole.failed = max(whole.failed, total.failed)
    return whole


def tell_options(task: Task[..., Any]) -> Iterator[str]:
    """Yield the options that differ from the defaults, as they are declared."""
    for field in dataclasses.fields(task.options):
        value = getattr(task.options, field.name)
        if field.name not in ("aliases", "on_lost") and value != getattr(DEFAULTS, field.name):
            yield f"{field.name}={cut(_tell(value), MAX_OPTION).text}"


def _tell(value: object) -> str:
    """
    >>> _tell((ValueError, OSError)), _tell(timedelta(minutes=5)), _tell("slow"), _tell(_tell)
    ('ValueError, OSError', '5 min', '"slow"', '_tell')
    """
    if isinstance(value, tuple):
        return ", ".join(_tell(each).strip('"') for each in value)
    if isinstance(value, timedelta):
        return duration(value)
    if isinstance(value, str):
        return f'"{printable(value)}"'
    return printable(getattr(value, "__qualname__", None) or repr(value))


def _doc_line(task: Task[..., Any] | None) -> str:
    doc = inspect.cleandoc(task.__doc__ or "") if task is not None else ""
    return cut(printable(doc.partition("\n")[0]), MAX_DOC_LINE).text


def _verdict(task: Task[..., Any] | None) -> str:
    if task is None:
        return ""
    if task.on_lost == "rerun":
        return _("runs again when its process dies, up to %(count)s attempts") % {"count": task.max_attempts}
    return _("is lost when its process dies")


def _paused_words(task: Task[..., Any], paused: frozenset[str], queues: frozenset[str]) -> dict[str, Any]:
    return {
        "is_paused": task.name in paused,
        "paused_queue": task.options.queue if task.options.queue in queues else "",
    }


def _signature(task: Task[..., Any]) -> str:
    function = split_name(task.name)[1]
    return f"{'async ' if task.is_async else ''}def {function}{describe_signature(task)}"


def _facts(task: Task[..., Any]) -> Iterator[Fact]:
    kind = _("async def") if task.is_async else _("def, on a thread")
    yield Fact(_("Kind"), kind)
    yield Fact(_("Written in"), task.place)
    yield Fact(_("Verdict"), _verdict(task))
    yield Fact(_("Attempts"), task.max_attempts)
    yield Fact(_("Queue"), task.options.queue)
    yield Fact(_("Options"), ", ".join(tell_options(task)) or _("as by default"))
    if task.options.aliases:
        yield Fact(_("Earlier names"), ", ".join(task.options.aliases), _("what was fired under them is run by it"))
    steps = ", ".join(map(str, sorted(task.steps)))
    yield Fact(
        _("Version of its arguments"),
        task.options.version,
        _("takes those of version %(versions)s too") % {"versions": steps} if steps else "",
    )


def _name_in(values: Any) -> str:
    name = str(values.get("name", ""))
    # PostgreSQL refuses NUL in a text, and no name is longer.
    if not name or len(name) > MAX_NAME_LENGTH or "\x00" in name:
        raise Http404("No function is called so.")
    return name


def _who(request: HttpRequest) -> str:
    """Return who asks, for the history."""
    return storable(f"user {request.user.get_username()}")[:200]


def _fired_by(request: HttpRequest) -> dict[str, Any]:
    user_id = request.user.pk
    known = {
        "method": request.method,
        "path": storable(request.path[:500]),
        "user_id": user_id if isinstance(user_id, int) else str(user_id),
    }
    request_id = request.headers.get("X-Request-ID")
    return {**known, "request_id": storable(request_id[:200])} if request_id else known
