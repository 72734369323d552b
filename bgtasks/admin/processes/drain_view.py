"""
The actions on a process: ask it to start no more tasks, and withdraw that request.

`DrainRequest` writes the request into the row of the process. This module asks for confirmation, logs and reports.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import router, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from ...conf import get_settings
from ...models import BackgroundTask, Process
from ...operations.drain_request import DrainRequest
from ..shared.base import ReadOnlyAdmin
from ..shared.formats import duration


class ProcessDrain(ReadOnlyAdmin):
    """The buttons on the page of one process."""

    def has_drain_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("bgtasks.drain_process"))

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        own = [
            path("<uuid:process_id>/drain/", view(self.drain_view), name="bgtasks_process_drain"),
            path("<uuid:process_id>/undo-drain/", view(self.undo_drain_view), name="bgtasks_process_undo_drain"),
        ]
        return own + super().get_urls()

    def drain_view(self, request: HttpRequest, process_id: UUID) -> HttpResponse:
        """Show the consequences of a drain, and request it by POST."""
        self._check_permission(request)
        process = self.get_queryset(request).filter(pk=process_id).first()
        if process is None or process.state not in Process.UP:
            return self._leave(request, process_id, process)
        if request.method in ("GET", "HEAD"):
            return TemplateResponse(request, "admin/bgtasks/process/drain.html", self._describe_drain(request, process))
        if request.method != "POST":
            return HttpResponseNotAllowed(["GET", "HEAD", "POST"])
        self._send(request, process, _("Asked to drain."), is_undo=False)
        text = _("%(process)s is asked to start nothing more. It heeds that within %(time)s; its running tasks go on.")
        self.message_user(request, text % self._words(process), messages.SUCCESS)
        return HttpResponseRedirect(self.page_of(Process, process.pk))

    def undo_drain_view(self, request: HttpRequest, process_id: UUID) -> HttpResponse:
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        self._check_permission(request)
        process = self.get_queryset(request).filter(pk=process_id).first()
        if process is None or process.state not in Process.UP:
            return self._leave(request, process_id, process)
        self._send(request, process, _("The drain was taken back."), is_undo=True)
        text = _("%(process)s may start tasks again. It does so within %(time)s.")
        self.message_user(request, text % self._words(process), messages.SUCCESS)
        return HttpResponseRedirect(self.page_of(Process, process.pk))

    def describe_buttons(self, request: HttpRequest, process: Process) -> dict[str, Any]:
        """Return the addresses of the buttons on the page of a process."""
        if process.state not in Process.UP or not self.has_drain_permission(request):
            return {}
        name = "undo_drain" if process.drain_requested_at else "drain"
        return {f"{name}_url": self._url_of(name, process)}

    def _url_of(self, name: str, process: Process) -> str:
        return reverse(f"admin:bgtasks_process_{name}", args=[process.pk], current_app=self.admin_site.name)

    def _check_permission(self, request: HttpRequest) -> None:
        if not (self.has_view_permission(request) and self.has_drain_permission(request)):
            raise PermissionDenied

    def _leave(self, request: HttpRequest, process_id: UUID, process: Process | None) -> HttpResponse:
        if process is None:
            self.message_user(request, _("This process is not known any more."), messages.WARNING)
            return HttpResponseRedirect(self.list_of(Process))
        text = _("%(process)s has ended: there is nothing to drain.")
        self.message_user(request, text % {"process": process}, messages.WARNING)
        return HttpResponseRedirect(self.page_of(Process, process_id))

    def _send(self, request: HttpRequest, process: Process, logged: str, *, is_undo: bool) -> None:
        alias = router.db_for_write(BackgroundTask)
        with transaction.atomic(using=alias):
            DrainRequest(alias, [process.pk], get_settings(), is_undo=is_undo).send()
            self.log_change(request, process, logged)

    def _words(self, process: Process) -> dict[str, Any]:
        return {"process": process, "time": duration(get_settings().poll_interval)}

    def _describe_drain(self, request: HttpRequest, process: Process) -> dict[str, Any]:
        alias = router.db_for_write(BackgroundTask)
        alive_since = timezone.now() - timedelta(seconds=get_settings().dead_after)
        alive = Process.objects.using(alias).filter(state=Process.State.ALIVE, beat_at__gte=alive_since)
        taking = alive.filter(drain_requested_at=None)
        return {
            **self.admin_site.each_context(request),
            "title": _("Drain %(process)s?") % {"process": process},
            "opts": self.opts,
            "media": self.media,
            "process": process,
            "back_url": self.page_of(Process, process.pk),
            "running": DrainRequest(alias, [process.pk], get_settings()).look().running_count,
            "is_last": not taking.exclude(pk=process.pk).exists(),
            "is_asked": process.drain_requested_at is not None,
        }
