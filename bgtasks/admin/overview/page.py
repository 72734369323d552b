"""The overview: the state of all processes and tasks, as tiles and pictures."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone

from ...conf import get_settings
from ...models import Ledger, Overview
from ...reports.audit import Auditor
from ..shared.cache import TimedCache
from ..shared.no_drain import describe_processes_without_drain
from ..shared.page import PageAdmin, live_context
from ..shared.recent_totals import WINDOWS, totals_of_week
from .banners import find_banners
from .functions import describe_failures, describe_functions
from .processes import describe_drains, describe_lifespans, describe_swimlanes
from .readings import Readings
from .throughput import describe_throughput, find_courses
from .tiles import find_tiles


def _count_unaccounted(using: str) -> int:
    return Auditor(using, get_settings()).balance().unaccounted


unaccounted = TimedCache(60.0, _count_unaccounted)  # All rows are counted: 0.1 s for a million.


@admin.register(Overview)
class OverviewAdmin(PageAdmin):
    template = "admin/bgtasks/overview.html"

    def describe(self, request: HttpRequest) -> dict[str, Any]:
        now = timezone.now()
        readings = Readings(self.using, now)
        return {
            **live_context(is_moving=bool(readings.running)),
            "no_drain": describe_processes_without_drain(self, request),
            "banners": list(find_banners(self, self.using, readings.up, now)),
            "tiles": list(find_tiles(self, readings)),
            **self._describe_ledger(request),
            **describe_swimlanes(self, readings),
            **describe_throughput(self, readings, request.GET.get("span", "")),
            "failures": list(describe_failures(self, readings)),
            "windows": [label for label, _length, _value in WINDOWS],
            "functions": list(describe_functions(self, totals_of_week.get(self.using))),
            "courses": list(find_courses(readings)),
            "lives": describe_lifespans(self, readings),
            "drains": list(describe_drains(self, readings)),
        }

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.unaccounted_view)
        return [path("unaccounted/", view, name="bgtasks_overview_unaccounted"), *super().get_urls()]

    def unaccounted_view(self, request: HttpRequest) -> HttpResponse:
        """Return the value of the tile "Unaccounted", which the page loads later, since the balance counts all rows."""
        if not request.user.has_perm("bgtasks.view_ledger"):
            raise PermissionDenied
        context = {"unaccounted": unaccounted.get(self.using)}
        return TemplateResponse(request, "bgtasks/admin/unaccounted.html", context)

    def _describe_ledger(self, request: HttpRequest) -> dict[str, Any]:
        if not request.user.has_perm("bgtasks.view_ledger"):
            return {}
        return {
            "ledger_url": self.list_of(Ledger),
            "unaccounted_url": reverse("admin:bgtasks_overview_unaccounted", current_app=self.admin_site.name),
            "unaccounted": unaccounted.get_known(self.using),
        }
