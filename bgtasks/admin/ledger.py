"""The ledger: whether all that was fired is accounted for."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db import router
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _

from ..conf import get_settings
from ..maintenance.audit import Auditor
from ..models import BackgroundTask, Ledger
from .base import Fact, ReadOnlyAdmin


@admin.register(Ledger)
class LedgerAdmin(ReadOnlyAdmin):
    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        audit = Auditor(router.db_for_write(BackgroundTask), get_settings()).balance()
        context = {
            **self.admin_site.each_context(request),
            "title": _("Ledger"),
            "opts": self.opts,
            "media": self.media,
            "unaccounted": audit.unaccounted,
            "facts": [
                Fact(_("Fired"), audit.fired, _("as the processes counted")),
                Fact(_("In the table"), audit.rows),
                Fact(_("Gone"), audit.gone, _("pruned or deleted")),
                Fact(_("Unaccounted"), audit.unaccounted),
                Fact(
                    _("Not counted yet"), audit.waiting_to_be_counted, _("recorded by a transaction, not claimed yet")
                ),
            ],
        }
        return TemplateResponse(request, "admin/bgtasks/ledger/change_list.html", context | (extra_context or {}))
