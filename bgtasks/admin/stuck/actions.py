"""
The actions on stuck tasks: apply their verdicts now, or cancel them.

The rescue gives a verdict to tasks whose process is over. A process that is only silent is watched first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Q
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.translation import get_language, ngettext_lazy, override
from django.utils.translation import gettext as _

from ...conf import get_settings
from ...models import BackgroundTask, Process, StuckTask
from ...operations.rescue_by_hand import VerdictRequest, background_watch, longest_watch, rescue_by_hand
from ...reports.stuck import Standing, find_standing
from ...status import LIVE, Status
from ...transitions import Cancellation, Verdict
from ..shared.base import name_user
from ..shared.formats import duration, join_names, printable
from ..shared.page import PageAdmin
from ..tasks.actions import LOGGED, cancel_each

MAX_AT_ONCE = 1000  # Tasks in one action.
MAX_NAMED = 5  # Names in one message.

WHY_CANCELLED = "cancelled in the admin: it was stuck"  # For the history, which is not translated.

GIVEN = {
    Status.LOST: ngettext_lazy("%(count)s task is lost: %(names)s.", "%(count)s tasks are lost: %(names)s.", "count"),
    Status.CANCELLED: ngettext_lazy(
        "%(count)s task is cancelled, as it was asked for: %(names)s.",
        "%(count)s tasks are cancelled, as it was asked for: %(names)s.",
        "count",
    ),
    Status.READY: ngettext_lazy(
        "%(count)s task is ready to run again, in any process: %(names)s.",
        "%(count)s tasks are ready to run again, in any process: %(names)s.",
        "count",
    ),
}
WATCHED = ngettext_lazy(
    "The process of %(count)s task is silent, and is watched for %(seconds)s from now on: if it does not beat, it is "
    "declared dead, and the task gets its verdict: %(names)s.",
    "The processes of %(count)s tasks are silent, and are watched for %(seconds)s from now on: those that do not beat "
    "are declared dead, and their tasks get their verdicts: %(names)s.",
    "count",
)
ALIVE = ngettext_lazy(
    "%(count)s task gets no verdict, since its process lives; it can be cancelled: %(names)s.",
    "%(count)s tasks get no verdict, since their processes live; they can be cancelled: %(names)s.",
    "count",
)
FREE = ngettext_lazy(
    "%(count)s task gets no verdict, since it waits for any process: %(names)s.",
    "%(count)s tasks get no verdict, since they wait for any process: %(names)s.",
    "count",
)
CHANGED = ngettext_lazy(
    "%(count)s task had changed, or finished, already: %(names)s.",
    "%(count)s tasks had changed, or finished, already: %(names)s.",
    "count",
)
DELETED = ngettext_lazy("%(count)s task was deleted.", "%(count)s tasks were deleted.", "count")
CANCELLED = {
    Cancellation.DONE: ngettext_lazy(
        "%(count)s task is cancelled: %(names)s.", "%(count)s tasks are cancelled: %(names)s.", "count"
    ),
    Cancellation.ASKED: ngettext_lazy(
        "%(count)s task is asked to stop, and its process acts within a second: %(names)s.",
        "%(count)s tasks are asked to stop, and their processes act within a second: %(names)s.",
        "count",
    ),
    Cancellation.TOO_LATE: CHANGED,
    Cancellation.MISSED: ngettext_lazy(
        "%(count)s task is not cancelled, since it changed at that moment: %(names)s. Try again.",
        "%(count)s tasks are not cancelled, since they changed at that moment: %(names)s. Try again.",
        "count",
    ),
}
CANCELLED_LATER = ngettext_lazy(
    "%(count)s task is marked to be cancelled, which its verdict does, since its process is gone: %(names)s.",
    "%(count)s tasks are marked to be cancelled, which their verdicts do, since their processes are gone: %(names)s.",
    "count",
)


class StuckActions(PageAdmin):
    """The buttons of the page, each with its permission."""

    def has_apply_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("bgtasks.apply_verdict"))

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("bgtasks.cancel_task"))

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        own = [
            path("apply/", view(self.apply_view), name="bgtasks_stucktask_apply"),
            path("cancel/", view(self.cancel_view), name="bgtasks_stucktask_cancel"),
        ]
        return own + super().get_urls()

    def action_url(self, action: str) -> str:
        return reverse(f"admin:bgtasks_stucktask_{action}", current_app=self.admin_site.name)

    def apply_view(self, request: HttpRequest) -> HttpResponse:
        return self._act_on_selection(request, self.has_apply_permission, self._apply)

    def cancel_view(self, request: HttpRequest) -> HttpResponse:
        return self._act_on_selection(request, self.has_cancel_permission, self._cancel)

    def read_processes(self, ids: Iterable[UUID | None]) -> dict[UUID, Process]:
        """Return these processes and all processes that are up. One query."""
        wanted = {each for each in ids if each is not None}
        rows = Process.objects.using(self.using).filter(Q(pk__in=wanted) | Q(state__in=Process.UP))
        return {process.pk: process for process in rows.defer("blocked_by", "functions")}

    def _act_on_selection(
        self,
        request: HttpRequest,
        is_allowed: Callable[[HttpRequest], bool],
        act: Callable[[HttpRequest, Sequence[BackgroundTask]], None],
    ) -> HttpResponse:
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not (self.has_view_permission(request) and is_allowed(request)):
            raise PermissionDenied
        if ids := self._read_selection(request):
            rows = BackgroundTask.objects.using(self.using).filter(pk__in=ids).order_by("pk")
            tasks = list(rows.only("id", "name", "status", "process"))
            act(request, tasks)
            if missing := len(ids) - len(tasks):
                self.message_user(request, DELETED % {"count": missing}, messages.WARNING)
        return HttpResponseRedirect(self.list_of(StuckTask))

    def _read_selection(self, request: HttpRequest) -> set[UUID]:
        """Return the id of the row whose button was pressed; otherwise the ids of the selected rows."""
        own = request.POST.get("one")
        texts = [own] if own else request.POST.getlist("task")
        try:
            ids = {UUID(text) for text in texts}
        except ValueError:  # Sent by no form of ours.
            self.message_user(request, _("The selection does not consist of tasks. Nothing was done."), messages.ERROR)
            return set()
        if len(ids) > MAX_AT_ONCE:
            too_many = _("More than %(count)s tasks are selected, which is too many at once. Nothing was done.")
            self.message_user(request, too_many % {"count": MAX_AT_ONCE}, messages.ERROR)
            return set()
        if not ids:
            self.message_user(request, _("No task is selected. Nothing was done."), messages.WARNING)
        return ids

    def _apply(self, request: HttpRequest, tasks: Sequence[BackgroundTask]) -> None:
        now, settings = timezone.now(), get_settings()
        processes = self.read_processes(task.process for task in tasks)
        outcomes: dict[Any, list[str]] = defaultdict(list)
        by_process: dict[UUID, list[BackgroundTask]] = defaultdict(list)
        for task in tasks:
            if task.status not in LIVE:
                outcomes["changed"].append(task.name)
            elif task.process is None:
                outcomes["free"].append(task.name)
            else:
                by_process[task.process].append(task)
        for process, its_tasks in by_process.items():
            standing = find_standing(processes.get(process), settings, now)
            for outcome, name in self._apply_to(request, process, standing, its_tasks):
                outcomes[outcome].append(name)
        self._report_verdicts(request, outcomes)

    def _apply_to(
        self, request: HttpRequest, process: UUID, standing: Standing, tasks: Sequence[BackgroundTask]
    ) -> Iterator[tuple[Any, str]]:
        """Apply the verdicts to tasks of one process. Yield the outcome and the name of each task."""
        if standing is Standing.OVER:
            yield from self._give_verdicts(request, process, tasks)
            return
        if standing is not Standing.UP:
            note = partial(_note_verdicts, request.user.pk, get_language())
            wanted = VerdictRequest(name_user(request), {task.pk for task in tasks}, note)
            background_watch.request(self.using, get_settings(), process, wanted)
        for task in tasks:
            yield "alive" if standing is Standing.UP else "watched", task.name

    def _report_verdicts(self, request: HttpRequest, outcomes: Mapping[Any, Sequence[str]]) -> None:
        for status, given in GIVEN.items():
            self._report(request, messages.SUCCESS, given, outcomes.get(status, ()))
        seconds = duration(longest_watch(get_settings()))
        self._report(request, messages.INFO, WATCHED, outcomes.get("watched", ()), seconds=seconds)
        for outcome, text in (("alive", ALIVE), ("free", FREE), ("changed", CHANGED)):
            self._report(request, messages.WARNING, text, outcomes.get(outcome, ()))

    def _give_verdicts(
        self, request: HttpRequest, process: UUID, tasks: Sequence[BackgroundTask]
    ) -> Iterator[tuple[Any, str]]:
        """Give the verdicts to tasks of a process that is over."""
        with transaction.atomic(using=self.using):
            verdicts = rescue_by_hand(self.using, process, name_user(request), [task.pk for task in tasks])
            _log_verdicts(request.user.pk, verdicts)
        given = {verdict.id: verdict.status for verdict in verdicts}
        for task in tasks:
            yield given.get(task.pk, "changed"), task.name

    def _cancel(self, request: HttpRequest, tasks: Sequence[BackgroundTask]) -> None:
        now, settings = timezone.now(), get_settings()
        processes = self.read_processes(task.process for task in tasks)
        names: dict[Any, list[str]] = defaultdict(list)
        for task, outcome in cancel_each(self, request, tasks, WHY_CANCELLED):
            process = processes.get(task.process) if task.process is not None else None
            is_asked = outcome is Cancellation.ASKED and task.process is not None
            is_later = is_asked and find_standing(process, settings, now) is not Standing.UP
            names["later" if is_later else outcome].append(task.name)
        for outcome, text in CANCELLED.items():
            self._report(request, messages.SUCCESS if outcome in LOGGED else messages.WARNING, text, names[outcome])
        self._report(request, messages.SUCCESS, CANCELLED_LATER, names["later"])

    def _report(self, request: HttpRequest, level: int, text: Any, names: Sequence[str], **values: str) -> None:
        if names:
            listed = join_names(sorted({printable(name) for name in names}), MAX_NAMED)
            self.message_user(request, text % {"count": len(names), "names": listed, **values}, level)


def _note_verdicts(user_id: Any, language: str | None, verdicts: Sequence[Verdict]) -> None:
    """Write the admin log outside a request, in the language of the user."""
    with override(language):
        _log_verdicts(user_id, verdicts)


def _log_verdicts(user_id: Any, verdicts: Sequence[Verdict]) -> None:
    for verdict in verdicts:
        LogEntry.objects.log_actions(
            user_id=user_id,
            queryset=[BackgroundTask(pk=verdict.id, name=verdict.name)],
            action_flag=CHANGE,
            change_message=_("Given its verdict: %(status)s.") % {"status": verdict.status.label},
            single_object=True,
        )
