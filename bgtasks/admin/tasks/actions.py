"""
What staff may do with background tasks: cancel them, fire them again, delete what has finished.

What that does to a row is decided by `transitions`, `fire_again` and the queryset; here it is asked for, logged and
told. None of it needs the runtime, so it works in any process that serves the admin. `bulk_actions` asks first when it
is about many.
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
from django.utils.translation import ngettext_lazy

from ... import transitions
from ...definition import declared
from ...failure import storable
from ...log import log
from ...models import BackgroundTask
from ...operations import fire_again
from ...operations.announce_ended import announcing
from ...operations.fire_again import FiredAgain, Refusal
from ...transitions import Cancellation, Verdict
from ..shared.base import ReadOnlyAdmin
from ..shared.formats import printable

BATCH = 200  # Tasks of one transaction.
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
DELETED = ngettext_lazy("%(count)s task is deleted.", "%(count)s tasks are deleted.", "count")
NOT_DELETED = ngettext_lazy(
    "%(count)s task is not deleted: it has not finished, or was deleted already.",
    "%(count)s tasks are not deleted: they have not finished, or were deleted already.",
    "count",
)


class TaskActions(ReadOnlyAdmin):
    """What is done with tasks, and the buttons on the page of one, each with its permission."""

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("bgtasks.cancel_task"))

    def has_fire_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("bgtasks.fire_task"))

    def has_delete_finished_permission(self, request: HttpRequest) -> bool:
        """Only what has finished can be deleted, and there is no page for it: `has_delete_permission` stays false."""
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

    def cancel(self, request: HttpRequest, tasks: Iterable[BackgroundTask]) -> None:
        alias = router.db_for_write(BackgroundTask)
        logged = {Cancellation.DONE: _("Cancelled."), Cancellation.ASKED: _("Asked to stop.")}
        counts: Counter[Cancellation] = Counter()
        with self._telling(request, lambda: self._tell_cancelled(request, counts)), announcing(alias) as ended:
            for task in tasks:
                own: list[Verdict] = []
                with transaction.atomic(using=alias):
                    outcome = transitions.cancel(alias, task.pk, _name(request), WHY_CANCELLED, ended=own)
                    if outcome in logged:
                        self.log_change(request, task, logged[outcome])
                ended += own
                counts[outcome] += 1

    def fire_again(self, request: HttpRequest, tasks: Sequence[BackgroundTask]) -> dict[UUID, BackgroundTask]:
        alias = router.db_for_write(BackgroundTask)
        total = FiredAgain()
        with self._telling(request, lambda: self._tell_fired(request, total)):
            for batch in _in_batches(tasks):
                with transaction.atomic(using=alias):
                    outcome = fire_again.fire_again(alias, [task.pk for task in batch], _name(request), WHY_FIRED)
                    for task in batch:
                        if task.pk in outcome.fired:
                            text = _("Fired again as %(id)s.") % {"id": outcome.fired[task.pk].pk}
                            self.log_change(request, task, text)
                total.fired.update(outcome.fired)
                total.refused.update(outcome.refused)
        return total.fired

    def _delete(self, request: HttpRequest, tasks: Sequence[BackgroundTask]) -> None:
        """Delete those that have finished, which they remain; the queryset counts them in the ledger."""
        alias = router.db_for_write(BackgroundTask)
        rows = BackgroundTask.objects.using(alias)
        counts: Counter[str] = Counter()
        with self._telling(request, lambda: self._tell_deleted(request, counts)):
            for batch in _in_batches(tasks):
                with transaction.atomic(using=alias):
                    found = rows.finished().filter(pk__in=[task.pk for task in batch])
                    finished = list(found.select_for_update().order_by("pk").only("name"))
                    self.log_deletions(request, finished)  # type: ignore[arg-type]  # It only goes through them.
                    rows.finished().filter(pk__in=[task.pk for task in finished]).delete()
                counts["deleted"] += len(finished)
                counts["left"] += len(batch) - len(finished)

    @contextmanager
    def _telling(self, request: HttpRequest, tell: Callable[[], None]) -> Iterator[None]:
        """Tell what was done, also when the database gave up after a part of it."""
        try:
            yield
        except DatabaseError as error:
            log(logging.ERROR, "The database stopped an action of the admin.", exc_info=error)
            tell()
            text = _("The database stopped it: what is said above is done, and the rest is not.")
            self.message_user(request, text, messages.ERROR)
            raise
        else:
            tell()

    def _tell_cancelled(self, request: HttpRequest, counts: Counter[Cancellation]) -> None:
        for outcome in Cancellation:
            is_well = outcome in (Cancellation.DONE, Cancellation.ASKED)
            self._tell(request, messages.SUCCESS if is_well else messages.WARNING, CANCELLED[outcome], counts[outcome])

    def _tell_fired(self, request: HttpRequest, outcome: FiredAgain) -> None:
        self._tell(request, messages.SUCCESS, FIRED, len(outcome.fired))
        counts = Counter(outcome.refused.values())
        for refusal in Refusal:
            self._tell(request, messages.WARNING, NOT_FIRED[refusal], counts[refusal])
        self._warn_of_unknown(request, outcome.fired.values())

    def _tell_deleted(self, request: HttpRequest, counts: Counter[str]) -> None:
        self._tell(request, messages.SUCCESS, DELETED, counts["deleted"])
        self._tell(request, messages.WARNING, NOT_DELETED, counts["left"])

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


def _in_batches(tasks: Sequence[BackgroundTask]) -> Iterator[Sequence[BackgroundTask]]:
    return (tasks[start : start + BATCH] for start in range(0, len(tasks), BATCH))
