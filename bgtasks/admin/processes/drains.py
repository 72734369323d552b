"""Drains: the list, and the page of one."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ...models import Drain
from ..shared.base import PageOfRowsWithProcess, ReadOnlyAdmin, breakable, cell, find_processes, label_of, short_id
from ..shared.formats import duration, write_moment
from ..tasks.link_filters import ProcessFilter
from .drain_advice import describe_advice
from .drain_page import describe, draw_drain


@admin.register(Drain)
class DrainAdmin(ReadOnlyAdmin):
    list_display = ["on_process", "picture", "asked", "started", "took", "running", "finished", "cancelled", "left"]
    list_display_links = ["on_process"]
    sortable_by = ["started"]
    list_filter = [ProcessFilter]

    class Media:
        css = {"all": ["bgtasks/pictures.css", "bgtasks/processes.css"]}

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[PageOfRowsWithProcess]:
        return PageOfRowsWithProcess

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        context = {"advice": describe_advice(self, request), "empty_note": _("No process has been drained yet.")}
        return super().changelist_view(request, {**context, **(extra_context or {})})

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        drain: Drain = context["original"]
        label = label_of(drain.process, find_processes([drain.process]))
        context |= {
            "title": _("Drain of %(process)s") % {"process": label},
            "subtitle": None,
            "drain": drain,
            **describe(drain, label, self, request),
            "advice": describe_advice(self, request),
        }
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description=gettext_lazy("process"))
    def on_process(self, drain: Drain) -> SafeString:
        label: str = drain.process_label  # type: ignore[attr-defined]  # Set by PageOfRowsWithProcess.
        return format_html(
            '<span class="bgtasks-name">{}</span><span class="bgtasks-under"><span title="{}">{}</span></span>',
            *(breakable(label), drain.pk, short_id(drain.pk)),
        )

    @admin.display(description=gettext_lazy("course"))
    def picture(self, drain: Drain) -> SafeString:
        if not drain.running_at_start:
            return SafeString("–")
        return render_to_string("bgtasks/admin/drain_picture.html", {"picture": draw_drain(drain)})

    @admin.display(description=gettext_lazy("asked by"))
    def asked(self, drain: Drain) -> SafeString:
        return cell(_("Asked by"), drain.asked_by)

    @admin.display(description=gettext_lazy("started at"), ordering="id")
    def started(self, drain: Drain) -> SafeString:
        return cell(_("Started at"), write_moment(drain.started_at))

    @admin.display(description=gettext_lazy("took"))
    def took(self, drain: Drain) -> SafeString:
        return cell(_("Took"), duration(drain.seconds))

    @admin.display(description=gettext_lazy("running"))
    def running(self, drain: Drain) -> SafeString:
        return cell(_("Running"), drain.running_at_start)

    @admin.display(description=gettext_lazy("finished"))
    def finished(self, drain: Drain) -> SafeString:
        return cell(_("Finished"), drain.finished_count)

    @admin.display(description=gettext_lazy("cancelled"))
    def cancelled(self, drain: Drain) -> SafeString:
        return cell(_("Cancelled"), drain.cancelled_count, "bgtasks-warning" if drain.cancelled_count else "")

    @admin.display(description=gettext_lazy("left"))
    def left(self, drain: Drain) -> SafeString:
        return cell(_("Left"), drain.left_count, "bgtasks-alarm" if drain.left_count else "")
