"""The ledger: the balance of fired tasks, present rows and deleted rows."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db import models
from django.http import HttpRequest
from django.utils.translation import gettext as _

from ...conf import get_settings
from ...models import Ledger
from ...reports.audit import Auditor
from ..shared.base import Fact
from ..shared.formats import number
from ..shared.page import PageAdmin


@admin.register(Ledger)
class LedgerAdmin(PageAdmin):
    template = "admin/bgtasks/ledger.html"

    def has_view_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return bool(request.user.has_perm("bgtasks.view_ledger"))

    def describe(self, request: HttpRequest) -> dict[str, Any]:
        audit = Auditor(self.using, get_settings()).balance()
        return {
            "refresh_seconds": None,  # Each refresh would count all rows.
            "unaccounted": audit.unaccounted,
            "facts": [
                Fact(_("Fired"), number(audit.fired), _("as the processes counted")),
                Fact(_("In the table"), number(audit.rows)),
                Fact(_("Gone"), number(audit.gone), _("pruned or deleted")),
                Fact(_("Unaccounted"), number(audit.unaccounted)),
                Fact(
                    _("Not counted yet"),
                    number(audit.waiting_to_be_counted),
                    _("recorded by a transaction, not claimed yet"),
                ),
            ],
        }
