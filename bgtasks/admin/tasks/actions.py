"""
The actions on background tasks: cancel, fire again, delete finished ones.

`transitions`, `fire_again` and the queryset decide the effect on a row. This module calls them, logs and reports. None
of them needs the runtime, so the actions work in any process that serves the admin. `bulk_actions` asks for
confirmation of an action on many tasks.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import DatabaseError, router, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import URLPattern, path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext_lazy

from ... import transitions
from ...definition import declared
from ...log import log
from ...models import BackgroundTask
from ...operations import fire_again
from ...operations.announce_ended import announcing
from ...operations.fire_again import FiredAgain, Refusal
from ...transitions import Cancellation, Verdict
from ..shared.base import ReadOnlyAdmin, name_user
from ..shared.formats import join_names, printable

BATCH = 200  # Tasks in one transaction.
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
LOGGED = {  # The texts of the successful outcomes in the admin log.
    Cancellation.DONE: gettext_lazy("Cancelled."),
    Cancellation.ASKED: gettext_lazy("Asked to stop."),
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
DELETED = ngettext_lazy("%(count)s task is deleted.", "%(count)s tasks are deleted.", "count")
NOT_DELETED = ngettext_lazy(
    "%(count)s task is not deleted: it has not finished, or was deleted already.",
    "%(count)s tasks are not deleted: they have not finished, or were deleted already.",
    "count",
)


class TaskActions(ReadOnlyAdmin):
    """Actions on tasks, and the buttons on the page of a task, each with its permission."""

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("bgtasks.cancel_task"))

    def has_fire_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("bgtasks.fire_task"))

    def has_delete_finished_permission(self, request: HttpRequest) -> bool:
        """Only an action of the list deletes, and only finished tasks: `has_delete_permission` stays false."""
        return bool(request.user.has_perm("bgtasks.delete_backgroundtask"))

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        own = [
            path("<uuid:task_id>/cancel/", view(self.cancel_view), name="bgtasks_backgroundtask_cancel"),
            path("<uuid:task_id>/fire-again/", view(self.fire_again_view), name="bgtasks_backgroundtask_fire_again"),
        ]
        return own + super().get_urls()

    def cancel_view(self, request: HttpRequest, task_id: UUID) -> HttpResponse:
        def act(task: BackgroundTask) -> BackgroundTask:
            self.cancel(request, [task])
            return task

        return self._act_on(request, task_id, self.has_cancel_permission, act)

    def fire_again_view(self, request: HttpRequest, task_id: UUID) -> HttpResponse:
        def act(task: BackgroundTask) -> BackgroundTask:
            return self.fire_again(request, [task]).get(task.pk, task)

        return self._act_on(request, task_id, self.has_fire_permission, act)

    def _act_on(
        self,
        request: HttpRequest,
        task_id: UUID,
        is_allowed: Callable[[HttpRequest], bool],
        act: Callable[[BackgroundTask], BackgroundTask],
    ) -> HttpResponse:
        """Run the action of a button on a task's page, and redirect to the page of the task that `act` returns."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not (self.has_view_permission(request) and is_allowed(request)):
            raise PermissionDenied
        task = self.get_queryset(request).only("name").filter(pk=task_id).first()
        if task is None:
            self.message_user(request, _("This task was deleted."), messages.WARNING)
            return HttpResponseRedirect(self.list_of(BackgroundTask))
        return HttpResponseRedirect(self.page_of(BackgroundTask, act(task).pk))

    def cancel(self, request: HttpRequest, tasks: Iterable[BackgroundTask]) -> None:
        counts: Counter[Cancellation] = Counter()
        with self._reporting(request, lambda: self._report_cancelled(request, counts)):
            for _task, outcome in cancel_each(self, request, tasks, WHY_CANCELLED):
                counts[outcome] += 1

    def fire_again(self, request: HttpRequest, tasks: Sequence[BackgroundTask]) -> dict[UUID, BackgroundTask]:
        alias = router.db_for_write(BackgroundTask)
        total = FiredAgain()
        with self._reporting(request, lambda: self._report_fired(request, total)):
            for batch in _in_batches(tasks):
                with transaction.atomic(using=alias):
                    outcome = fire_again.fire_again(alias, [task.pk for task in batch], name_user(request), WHY_FIRED)
                    for task in batch:
                        if task.pk in outcome.fired:
                            text = _("Fired again as %(id)s.") % {"id": outcome.fired[task.pk].pk}
                            self.log_change(request, task, text)
                total.fired.update(outcome.fired)
                total.refused.update(outcome.refused)
        return total.fired

    def _delete(self, request: HttpRequest, tasks: Sequence[BackgroundTask]) -> None:
        """Delete the finished ones of these tasks. The queryset counts them in the ledger."""
        alias = router.db_for_write(BackgroundTask)
        rows = BackgroundTask.objects.using(alias)
        counts: Counter[str] = Counter()
        with self._reporting(request, lambda: self._report_deleted(request, counts)):
            for batch in _in_batches(tasks):
                with transaction.atomic(using=alias):
                    found = rows.finished().filter(pk__in=[task.pk for task in batch])
                    finished = list(found.select_for_update().order_by("pk").only("name"))
                    self.log_deletions(request, finished)  # type: ignore[arg-type]  # Django only iterates over them.
                    rows.finished().filter(pk__in=[task.pk for task in finished]).delete()
                counts["deleted"] += len(finished)
                counts["left"] += len(batch) - len(finished)

    @contextmanager
    def _reporting(self, request: HttpRequest, report: Callable[[], None]) -> Iterator[None]:
        """Report the outcome of an action, also of a part of it if the database raises an error halfway."""
        try:
            yield
        except DatabaseError as error:
            log(logging.ERROR, "The database stopped an action of the admin.", exc_info=error)
            report()
            text = _("The database stopped the action: the part reported above is done, and the rest is not.")
            self.message_user(request, text, messages.ERROR)
            raise
        else:
            report()

    def _report_cancelled(self, request: HttpRequest, counts: Counter[Cancellation]) -> None:
        for outcome in Cancellation:
            level = messages.SUCCESS if outcome in LOGGED else messages.WARNING
            self._report(request, level, CANCELLED[outcome], counts[outcome])

    def _report_fired(self, request: HttpRequest, outcome: FiredAgain) -> None:
        self._report(request, messages.SUCCESS, FIRED, len(outcome.fired))
        counts = Counter(outcome.refused.values())
        for refusal in Refusal:
            self._report(request, messages.WARNING, NOT_FIRED[refusal], counts[refusal])
        self._warn_of_unknown(request, outcome.fired.values())

    def _report_deleted(self, request: HttpRequest, counts: Counter[str]) -> None:
        self._report(request, messages.SUCCESS, DELETED, counts["deleted"])
        self._report(request, messages.WARNING, NOT_DELETED, counts["left"])

    def _warn_of_unknown(self, request: HttpRequest, fired: Iterable[BackgroundTask]) -> None:
        """Name the functions that this process does not know: their tasks wait for a process that does."""
        unknown = sorted({task.name for task in fired} - declared.keys())
        if unknown:
            names = join_names([printable(name) for name in unknown], MAX_NAMED)
            text = _("Not known in this process, so a process that knows it has to start it: %(names)s.")
            self.message_user(request, text % {"names": names}, messages.WARNING)

    def _report(self, request: HttpRequest, level: int, text: Any, count: int) -> None:
        if count:
            self.message_user(request, text % {"count": count}, level)


def cancel_each(
    admin: ReadOnlyAdmin, request: HttpRequest, tasks: Iterable[BackgroundTask], why: str
) -> Iterator[tuple[BackgroundTask, Cancellation]]:
    """
    Cancel each task in a transaction of its own, log it, and yield it with its outcome.

    Args:
        why: for the history of the task, which is not translated.
    """
    alias = router.db_for_write(BackgroundTask)
    with announcing(alias) as ended:
        for task in tasks:
            own: list[Verdict] = []
            with transaction.atomic(using=alias):
                outcome = transitions.cancel(alias, task.pk, name_user(request), why, ended=own)
                if outcome in LOGGED:
                    admin.log_change(request, task, str(LOGGED[outcome]))
            ended += own
            yield task, outcome


def _in_batches(tasks: Sequence[BackgroundTask]) -> Iterator[Sequence[BackgroundTask]]:
    return (tasks[start : start + BATCH] for start in range(0, len(tasks), BATCH))
