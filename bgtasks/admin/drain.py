"""Drains: the list, and the page of one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ..models import Drain, Process
from .base import Fact, PageOfRowsWithProcess, ReadOnlyAdmin, breakable, cell, find_processes, label_of, short_id
from .formats import duration, printable, write_moment
from .task_filters import ProcessFilter

MAX_NAMES = 100


@admin.register(Drain)
class DrainAdmin(ReadOnlyAdmin):
    list_display = ["on_process", "asked", "started", "took", "running", "finished", "cancelled", "left"]
    list_display_links = ["on_process"]
    sortable_by = ["started"]
    list_filter = [ProcessFilter]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[PageOfRowsWithProcess]:
        return PageOfRowsWithProcess

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        drain: Drain = context["original"]
        label = label_of(drain.process, find_processes([drain.process]))
        context |= {
            "title": _("Drain of %(process)s") % {"process": label},
            "subtitle": None,
            "drain": drain,
            "facts": list(self._facts(drain, label)),
            "names": _names(drain),
        }
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description=gettext_lazy("process"))
    def on_process(self, drain: Drain) -> SafeString:
        label: str = drain.process_label  # type: ignore[attr-defined]  # Put there by PageOfRowsWithProcess.
        return format_html(
            '<span class="bgtasks-name">{}</span><span class="bgtasks-under"><span title="{}">{}</span></span>',
            *(breakable(label), drain.pk, short_id(drain.pk)),
        )

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

    def _facts(self, drain: Drain, label: str) -> Iterator[Fact]:
        yield Fact(_("Process"), label, url=self.page_of(Process, drain.process))
        yield Fact(_("Asked by"), drain.asked_by)
        yield Fact(_("Started at"), write_moment(drain.started_at, milliseconds=True))
        yield Fact(_("Took"), duration(drain.seconds))
        yield Fact(_("Running at start"), drain.running_at_start)
        yield Fact(_("Finished in time"), drain.finished_count)
        yield Fact(_("Cancelled"), drain.cancelled_count, _("cut short at the deadline"))
        yield Fact(_("Left"), drain.left_count, _("did not end even when cancelled"))


def _names(drain: Drain) -> list[tuple[str, str]]:
    names = drain.names if isinstance(drain.names, dict) else {}
    return [(printable(name), printable(count)) for name, count in list(names.items())[:MAX_NAMES]]
