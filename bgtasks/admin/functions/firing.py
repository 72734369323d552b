"""Firing a task function from its page, in the name of the user."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext as _

from ...api import fire
from ...definition import Task
from ...exceptions import BgTasksError, KeyConflict
from ...failure import storable
from ...models import BackgroundTask
from ..shared.base import name_user
from ..shared.page import PageAdmin
from ..tasks.neighbours import function_url
from .fire_form import FireForm

WHY_FIRED = "fired in the admin"  # For the history, which is not translated.


class FunctionFiring(PageAdmin):
    def has_fire_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("bgtasks.fire_task"))

    def fire(self, request: HttpRequest, task: Task[..., Any], form: FireForm) -> HttpResponse | None:
        """Fire a task as synchronous code does. Return None if it is refused: the form then has an error."""
        args, kwargs = form.arguments()
        with transaction.atomic(using=self.using):
            try:
                # In this transaction, in spite of the declared options: the browser asks for the page of the row next.
                handle = fire(task.using(fire_on_commit=True), *args, **kwargs)
                handle.status  # noqa: B018  # Raises KeyConflict if another task has the key.
            except KeyConflict as conflict:
                text = _("Not fired: another task has the key %(key)s. This is its page.")
                self.message_user(request, text % {"key": conflict.key}, messages.WARNING)
                return HttpResponseRedirect(self.page_of(BackgroundTask, conflict.id))
            except (TypeError, ValueError, BgTasksError) as error:
                form.add_error(None, storable(str(error)))
                return None
            is_recorded = self._sign(request, handle.id)
            self.log_addition(request, BackgroundTask(pk=handle.id, name=task.name), _("Fired in the admin."))
        return self._leave(request, task, handle.id, is_recorded)

    def _sign(self, request: HttpRequest, task_id: UUID) -> bool:
        """Write the user into the row of a task. Return False if the row does not exist yet."""
        rows = BackgroundTask.objects.using(self.using).filter(pk=task_id)
        found = rows.values_list("transitions", flat=True).first()
        if found is None:
            return False
        history = [{**found[0], "by": name_user(request), "why": WHY_FIRED}, *found[1:]]
        return bool(rows.update(transitions=history, fired_by=_describe_request(request)))

    def _leave(self, request: HttpRequest, task: Task[..., Any], task_id: UUID, is_recorded: bool) -> HttpResponse:
        """Redirect to the page of the new task; to the page of its function while the task has no row."""
        if not is_recorded:
            text = _("Fired %(name)s as %(id)s. It is being recorded: look for it in a moment.")
            self.message_user(request, text % {"name": task.name, "id": task_id}, messages.SUCCESS)
            return HttpResponseRedirect(function_url(task.name, self))
        self.message_user(request, _("Fired %(name)s.") % {"name": task.name}, messages.SUCCESS)
        return HttpResponseRedirect(self.page_of(BackgroundTask, task_id))


def _describe_request(request: HttpRequest) -> dict[str, Any]:
    """Return the request in the form in which the runtime stores the requests that fire tasks."""
    user_id = request.user.pk
    known = {
        "method": request.method,
        "path": storable(request.path[:500]),
        "user_id": user_id if isinstance(user_id, int) else str(user_id),
    }
    request_id = request.headers.get("X-Request-ID")
    return {**known, "request_id": storable(request_id[:200])} if request_id else known
