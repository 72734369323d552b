"""
What staff may do with background tasks: cancel them, fire them again.

What that does to a row is decided by `transitions` and `fire_again`; here it is asked for, logged and told. None of it
needs the runtime, so it works in any process that serves the admin.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import router, transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import URLPattern, path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext_lazy

from .. import fire_again, transitions
from ..definition import declared
from ..failure import storable
from ..fire_again import Refusal
from ..models import BackgroundTask
from ..transitions import Cancellation
from .base import ReadOnlyAdmin
from .formats import printable

MAX_AT_ONCE = 1000  # Tasks of one action.
MAX_NAMED = 5  # Names in one message.

WHY_CANCELLED = "cancelled in the admin"  # For the history, which is not translated.
WHY_FIRED = "fired again in the admin"

CANCELLED = {
    Cancellation.DONE: ngettext_lazy("%(count)s task is cancelled.", "%(count)s tasks are cancelled.", "count"),
    Cancellation.ASKED: ngettext_lazy(
        "%(count)s task is asked to stop: the process that has it acts within a second.",
        "%(count)s tasks are asked to stop: the processes that have them act within a second.",
        "count",
    ),
    Cancellation.TOO_LATE: ngettext_lazy(
        "%(count)s task had finished already.", "%(count)s tasks had finished already.", "count"
    ),
    Cancellation.MISSED: ngettext_lazy(
        "%(count)s task is not cancelled, since it changed at that moment. Try again.",
        "%(count)s tasks are not cancelled, since they changed at that moment. Try again.",
        "count",
    ),
}
FIRED = ngettext_lazy(
    "%(count)s task is fired again, as a new one that any process may start.",
    "%(count)s tasks are fired again, as new ones that any process may start.",
    "count",
)
NOT_FIRED = {
    Refusal.GONE: ngettext_lazy(
        "%(count)s task is not fired again: it was deleted.",
        "%(count)s tasks are not fired again: they were deleted.",
        "count",
    ),
    Refusal.LIVE: ngettext_lazy(
        "%(count)s task is not fired again: it has not finished.",
        "%(count)s tasks are not fired again: they have not finished.",
        "count",
    ),
    Refusal.NO_FUNCTION: ngettext_lazy(
        "%(count)s task is not fired again: it was a coroutine object, which cannot be run twice.",
        "%(count)s tasks are not fired again: they were coroutine objects, which cannot be run twice.",
        "count",
    ),
    Refusal.NO_ARGUMENTS: ngettext_lazy(
        "%(count)s task is not fired again: its arguments are not stored, since the database refused them.",
        "%(count)s tasks are not fired again: their arguments are not stored, since the database refused them.",
        "count",
    ),
    Refusal.REPEATED: ngettext_lazy(
        "%(count)s task is not fired again: it was already, and that task has not finished.",
        "%(count)s tasks are not fired again: they were already, and those tasks have not finished.",
        "count",
    ),
    Refusal.KEY_TAKEN: ngettext_lazy(
        "%(count)s task is not fired again: another task has its key, or the key stays taken for some time.",
        "%(count)s tasks are not fired again: other tasks have their keys, or the keys stay taken for some time.",
        "count",
    ),
}


class TaskActions(ReadOnlyAdmin):
    """The actions on a selection of the list, and the buttons on the page of one task, each with its permission."""

    actions = ["cancel_tasks", "fire_tasks_again"]

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("bgtasks.cancel_task"))

    def has_fire_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("bgtasks.fire_task"))

    @admin.action(description=gettext_lazy("Cancel"), permissions=["cancel"])
    def cancel_tasks(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        self._cancel(request, self._select(request, queryset))

    @admin.action(description=gettext_lazy("Fire again"), permissions=["fire"])
    def fire_tasks_again(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        self._fire_again(request, self._select(request, queryset))

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if request.method == "POST" and not self.get_actions(request):
            raise PermissionDenied
        return super().changelist_view(request, extra_context)

    def response_action(
        self, request: HttpRequest, queryset: QuerySet[Any], *args: Any, **kwargs: Any
    ) -> HttpResponse | None:
        try:
            return super().response_action(request, queryset, *args, **kwargs)
        except ValidationError:  # An id that is none: no form of ours has sent it.
            self.message_user(request, _("What was selected are no tasks. Nothing was done."), messages.ERROR)
            return None

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        own = [
            path("<uuid:task_id>/cancel/", view(self.cancel_view), name="bgtasks_backgroundtask_cancel"),
            path("<uuid:task_id>/fire-again/", view(self.fire_again_view), name="bgtasks_backgroundtask_fire_again"),
        ]
        return own + super().get_urls()

    def cancel_view(self, request: HttpRequest, task_id: UUID) -> HttpResponse:
        def act(task: BackgroundTask) -> BackgroundTask:
            self._cancel(request, [task])
            return task

        return self._act_on(request, task_id, self.has_cancel_permission, act)

    def fire_again_view(self, request: HttpRequest, task_id: UUID) -> HttpResponse:
        def act(task: BackgroundTask) -> BackgroundTask:
            return self._fire_again(request, [task]).get(task.pk, task)

        return self._act_on(request, task_id, self.has_fire_permission, act)

    def _act_on(
        self,
        request: HttpRequest,
        task_id: UUID,
        is_allowed: Callable[[HttpRequest], bool],
        act: Callable[[BackgroundTask], BackgroundTask],
    ) -> HttpResponse:
        """Do what the button of a task's page asks for, and lead to the page of the task that `act` returns."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not (self.has_view_permission(request) and is_allowed(request)):
            raise PermissionDenied
        task = self.get_queryset(request).only("name").filter(pk=task_id).first()
        if task is None:
            self.message_user(request, _("This task was deleted."), messages.WARNING)
            return HttpResponseRedirect(self.list_of(BackgroundTask))
        return HttpResponseRedirect(self.page_of(BackgroundTask, act(task).pk))

    def _select(self, request: HttpRequest, queryset: QuerySet[Any]) -> Sequence[BackgroundTask]:
        """Return the tasks of a selection, oldest first; none of one that is too large for a request."""
        selected = list(queryset.order_by("pk")[: MAX_AT_ONCE + 1])
        if len(selected) <= MAX_AT_ONCE:
            return selected
        too_many = _("More than %(count)s tasks are selected, which is too many at once. Nothing was done.")
        self.message_user(request, too_many % {"count": MAX_AT_ONCE}, messages.ERROR)
        return []

    def _cancel(self, request: HttpRequest, tasks: Iterable[BackgroundTask]) -> None:
        alias = router.db_for_write(BackgroundTask)
        logged = {Cancellation.DONE: _("Cancelled."), Cancellation.ASKED: _("Asked to stop.")}
        counts: Counter[Cancellation] = Counter()
        for task in tasks:
            with transaction.atomic(using=alias):
                outcome = transitions.cancel(alias, task.pk, _name(request), WHY_CANCELLED)
                if outcome in logged:
                    self.log_change(request, task, logged[outcome])
            counts[outcome] += 1
        for outcome in Cancellation:
            level = messages.SUCCESS if outcome in logged else messages.WARNING
            self._tell(request, level, CANCELLED[outcome], counts[outcome])

    def _fire_again(self, request: HttpRequest, tasks: Sequence[BackgroundTask]) -> dict[UUID, BackgroundTask]:
        alias = router.db_for_write(BackgroundTask)
        with transaction.atomic(using=alias):
            outcome = fire_again.fire_again(alias, [task.pk for task in tasks], _name(request), WHY_FIRED)
            for task in tasks:
                if task.pk in outcome.fired:
                    self.log_change(request, task, _("Fired again as %(id)s.") % {"id": outcome.fired[task.pk].pk})
        self._tell(request, messages.SUCCESS, FIRED, len(outcome.fired))
        counts = Counter(outcome.refused.values())
        for refusal in Refusal:
            self._tell(request, messages.WARNING, NOT_FIRED[refusal], counts[refusal])
        self._warn_of_unknown(request, outcome.fired.values())
        return outcome.fired

    def _warn_of_unknown(self, request: HttpRequest, fired: Iterable[BackgroundTask]) -> None:
        """Name the functions that this process does not know: if no other one does either, their tasks just wait."""
        unknown = sorted({task.name for task in fired} - declared.keys())
        if unknown:
            names = ", ".join([*map(printable, unknown[:MAX_NAMED]), *(["…"] if len(unknown) > MAX_NAMED else [])])
            text = _("Not known in this process, so a process that knows it has to start it: %(names)s.")
            self.message_user(request, text % {"names": names}, messages.WARNING)

    def _tell(self, request: HttpRequest, level: int, text: Any, count: int) -> None:
        if count:
            self.message_user(request, text % {"count": count}, level)


def _name(request: HttpRequest) -> str:
    """Return who asks, for the history."""
    return storable(f"user {request.user.get_username()}")[:200]
