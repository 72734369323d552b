"""A page of the admin that is not a list of rows. It takes the place of the list of a proxy model."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import models, router
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.template.response import TemplateResponse
from django.urls import URLPattern, get_script_prefix, path

from ...live import PATH, is_routed
from ...models import BackgroundTask
from .base import ReadOnlyAdmin, title_of

MOVING, RESTING = 1, 5  # Seconds between two refreshes: of a page with a socket and growing bars, and of other pages.


def live_context(*, is_moving: bool) -> dict[str, Any]:
    """Return the values for the script of a page: the seconds between refreshes, and the address of the socket."""
    return {
        "refresh_seconds": RESTING if not is_routed() or not is_moving else MOVING,
        "is_moving": is_moving,
        "socket_path": get_script_prefix() + PATH if is_routed() else "",
    }


class PageAdmin(ReadOnlyAdmin):
    """A page for users with the permission to view background tasks."""

    template = ""

    @property
    def using(self) -> str:
        return router.db_for_write(BackgroundTask)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return bool(request.user.has_perm("bgtasks.view_backgroundtask"))

    def get_urls(self) -> list[URLPattern]:
        """Return the address of the page. Rows have none here, and subclasses add their own addresses."""
        name = f"{self.opts.app_label}_{self.opts.model_name}_changelist"
        return [path("", self.admin_site.admin_view(self.changelist_view), name=name)]

    def describe(self, request: HttpRequest) -> dict[str, Any]:
        """Return the values for the template."""
        raise NotImplementedError

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        request.current_app = self.admin_site.name  # For `url` in the templates.
        context = {
            **self.admin_site.each_context(request),
            "title": title_of(self.opts),
            "opts": self.opts,
            "media": self.media,
            **live_context(is_moving=False),
            **self.describe(request),
            **(extra_context or {}),
        }
        return TemplateResponse(request, self.template, context)
