"""Pausing and resuming a task function from its page."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext as _

from ...definition import MAX_NAME_LENGTH, declared
from ...models import Pause
from ...operations import pauses
from ..shared.page import PageAdmin
from ..tasks.neighbours import function_url


class FunctionPausing(PageAdmin):
    def pause_view(self, request: HttpRequest) -> HttpResponse:
        task = declared.get(self._name_to_change(request, "bgtasks.add_pause"))
        if task is None:
            raise Http404("No function here is called so.")
        kind = Pause.Kind.FUNCTION
        with transaction.atomic(using=self.using):
            if pauses.pause(self.using, kind, [task.name], str(request.user)[:200]):
                row = Pause.objects.using(self.using).get(kind=kind, name=task.name)
                self.log_addition(request, row, _("Paused."))
        text = _("Paused %(name)s: running tasks go on, waiting and new tasks wait until it is resumed.")
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
        return name_in(request.POST)


def name_in(values: Any) -> str:
    """Return the name of a function that the parameters of a request hold."""
    name = str(values.get("name", ""))
    # PostgreSQL refuses NUL in a text, and no name is longer.
    if not name or len(name) > MAX_NAME_LENGTH or "\x00" in name:
        raise Http404("No function is called so.")
    return name
