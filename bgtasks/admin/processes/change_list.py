"""Processes: the list, and the page of one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.contrib.admin import SimpleListFilter
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.defaultfilters import filesizeformat
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from ...conf import get_settings
from ...models import Process
from ...reports import rollups
from ...status import Status
from ..pictures import sparkline
from ..shared.base import Fact, PageOfRows, badge, breakable, cell, short_id
from ..shared.formats import duration, printable, time_since, write_minute, write_moment
from ..shared.no_drain import describe_if_without_drain, describe_processes_without_drain, has_no_drain
from ..shared.page import live_context
from ..tasks.filters import ShowFilter
from ..tasks.link_filters import ProcessFilter
from .drain_view import ProcessDrain
from .page import HOUR, describe, finished_by_minute

MAX_NAMES = 100


class StateFilter(SimpleListFilter):
    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(state.value, state.label) for state in Process.State]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if not self.value():
            return queryset
        return queryset.filter(state=self.value()) if self.value() in Process.State.values else queryset.none()


class PageOfProcesses(PageOfRows):
    """The processes of one page with their ended tasks in each minute of the last hour. These take one more query."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        now = timezone.now()
        rows = list(self.result_list)
        lately = [row for row in rows if row.state in Process.UP or (row.stopped_at or row.started_at) > now - HOUR]
        buckets = rollups.read(self.root_queryset.db, rollups.MINUTE, now, HOUR, [row.pk for row in lately])
        by_process: dict[Any, list[rollups.Bucket]] = {}
        for bucket in buckets:
            by_process.setdefault(bucket.process, []).append(bucket)
        for row in rows:
            found = by_process.get(row.pk)
            row.finished_lately = finished_by_minute(row, found, now) if found else []
        self.result_list = rows


@admin.register(Process)
class ProcessAdmin(ProcessDrain):
    list_display = [
        *["address", "badge", "server_and_release", "started", "beat_age"],
        *["memory_used", "running_tasks", "finished", "fired"],
    ]
    list_display_links = ["address"]
    sortable_by = ["started"]
    list_filter = [StateFilter]

    class Media:
        css = {"all": ["bgtasks/pictures.css", "bgtasks/processes.css"]}

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[PageOfProcesses]:
        return PageOfProcesses

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        found = describe_processes_without_drain(self, request)
        context = {"no_drain": found, **live_context(is_moving=False), "socket_path": ""}  # Beats are not pushed.
        return super().changelist_view(request, {**context, **(extra_context or {})})

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        process: Process = context["original"]
        context |= {
            "title": f"{process.host}:{process.pid}",
            "subtitle": None,
            "process": process,
            "facts": list(self._facts(process)),
            "no_drain": describe_if_without_drain(process),
            "died_with": _died_with(process),
            "lost_url": self.tasks_url(status=Status.LOST, process=str(process.pk)),
            "live_tasks_url": self._live_tasks_of(process),
            **self.describe_buttons(request, process),
            **describe(process, self, request),
        }
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description=gettext_lazy("process"))
    def address(self, process: Process) -> SafeString:
        return format_html(
            '<span class="bgtasks-name">{}</span><span class="bgtasks-under"><span title="{}">{}</span></span>',
            *(breakable(f"{process.host}:{process.pid}"), process.pk, short_id(process.pk)),
        )

    @admin.display(description=gettext_lazy("state"))
    def badge(self, process: Process) -> SafeString:
        shown = badge(process.state, process.get_state_display())
        if process.drain_requested_at and process.state in Process.UP:
            note = _("starts nothing") if process.drain_acknowledged_at else _("asked to drain")
            shown = format_html('{} <span class="bgtasks-note">{}</span>', shown, note)
        if has_no_drain(process):
            template = '{} <span class="bgtasks-note bgtasks-warning">{}</span>'
            shown = format_html(template, shown, _("no drain is active"))
        if process.blocked_since and process.state in Process.UP:
            shown = format_html('{} <span class="bgtasks-note bgtasks-warning">{}</span>', shown, _("blocked"))
        return shown

    @admin.display(description=gettext_lazy("server"))
    def server_and_release(self, process: Process) -> SafeString:
        server = format_html('{}<span class="bgtasks-under">{}</span>', process.server or "–", process.release)
        return cell(_("Server"), server, "bgtasks-wraps")

    @admin.display(description=gettext_lazy("started at"), ordering="id")
    def started(self, process: Process) -> SafeString:
        return cell(_("Started at"), write_minute(process.started_at))

    @admin.display(description=gettext_lazy("last beat"))
    def beat_age(self, process: Process) -> SafeString:
        age = cell(_("Last beat"), *_beat_age(process))
        if process.loop_lag is None or process.state not in Process.UP:
            return age
        lag, kind = _lag(process)
        return format_html(
            '{} <span class="bgtasks-note {}">{}</span>', age, kind, _("loop lag %(time)s") % {"time": lag}
        )

    @admin.display(description=gettext_lazy("memory"))
    def memory_used(self, process: Process) -> SafeString:
        count = process.connections
        if count is None:
            return cell(_("Memory"), _memory(process))
        connections = ngettext("%(count)s connection", "%(count)s connections", count) % {"count": count}
        shown = format_html('{}<span class="bgtasks-under">{}</span>', _memory(process), connections)
        return cell(_("Memory"), shown, "bgtasks-wraps")

    @admin.display(description=gettext_lazy("running"))
    def running_tasks(self, process: Process) -> SafeString:
        url = self._live_tasks_of(process)
        count = format_html('<a href="{}" title="{}">{}</a>', url, _("Its live tasks"), process.running)
        return cell(_("Running"), count if url and process.state in Process.UP else process.running)

    @admin.display(description=gettext_lazy("finished, 60 min"))
    def finished(self, process: Process) -> SafeString:
        counts: list[int | None] = process.finished_lately  # type: ignore[attr-defined]  # Set by PageOfProcesses.
        measured = [count for count in counts if count is not None]
        if not measured:
            return cell(_("Finished in 60 min"), "–")
        words = _("at most %(count)s in a minute") % {"count": max(measured)}
        picture = render_to_string(
            "bgtasks/admin/spark.html", {"picture": sparkline.draw(counts, 1.0), "text": f"{sum(measured)}, {words}"}
        )
        return cell(_("Finished in 60 min"), format_html("{} {}", sum(measured), picture))

    @admin.display(description=gettext_lazy("fired"))
    def fired(self, process: Process) -> SafeString:
        return cell(_("Fired"), process.fired_count)

    def _live_tasks_of(self, process: Process) -> str:
        return self.tasks_url(**{ShowFilter.parameter_name: "live", ProcessFilter.parameter_name: str(process.pk)})

    def _facts(self, process: Process) -> Iterator[Fact]:
        yield Fact(_("Server"), process.server or "–", process.release)
        yield Fact(_("Started at"), write_moment(process.started_at))
        if process.stopped_at:
            yield Fact(_("Stopped at"), write_moment(process.stopped_at))
        yield Fact(_("Last beat"), _beat_age(process)[0], write_moment(process.beat_at))
        yield Fact(_("Event loop answered at"), write_moment(process.loop_seen_at))
        if process.blocked_since:
            yield Fact(_("Blocked since"), write_moment(process.blocked_since))
        yield Fact(_("Loop lag"), _lag(process)[0], _("of its event loop, at the last beat"))
        yield Fact(_("Memory"), _memory(process))
        note = _("to databases, of its journal and of the lanes and threads of its tasks; its views have more")
        yield Fact(_("Connections"), _connections(process), note)
        yield Fact(_("Running"), process.running, _("at the last beat"))
        yield Fact(_("Fired"), process.fired_count, _("tasks that it recorded first"))
        yield Fact(_("At its end"), _("It drains") if process.has_lifespan else _("No drain is active"))
        if process.drain_requested_at:
            yield Fact(_("Asked to drain at"), write_moment(process.drain_requested_at), _acknowledged(process))


def _died_with(process: Process) -> list[tuple[str, str]]:
    names = process.died_with if isinstance(process.died_with, dict) else {}
    ranked = sorted(names.items(), key=lambda item: str(item[1]).zfill(9), reverse=True)
    return [(printable(name), printable(count)) for name, count in ranked[:MAX_NAMES]]


def _acknowledged(process: Process) -> str:
    if process.drain_acknowledged_at is None:
        return _("not acknowledged yet") if process.state in Process.UP else _("never acknowledged")
    return _("acknowledged at %(time)s: it starts nothing") % {"time": write_moment(process.drain_acknowledged_at)}


def _beat_age(process: Process) -> tuple[str, str]:
    if process.state not in Process.UP or process.beat_at is None:
        return "–", ""
    now = timezone.now()
    is_late = now - process.beat_at > timedelta(seconds=get_settings().dead_after)
    age = _("%(time)s ago") % {"time": time_since(process.beat_at, now)}
    return age, "bgtasks-warning" if is_late else ""


def _lag(process: Process) -> tuple[str, str]:
    if process.loop_lag is None:
        return "–", ""
    is_blocked = process.loop_lag > get_settings().blocked_after and process.state in Process.UP
    return duration(process.loop_lag), "bgtasks-warning" if is_blocked else ""


def _memory(process: Process) -> str:
    return "–" if process.memory is None else str(filesizeformat(process.memory))


def _connections(process: Process) -> str:
    return "–" if process.connections is None else str(process.connections)
