"""Background tasks: the list, and the page of one."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from django.contrib import admin
from django.db import router
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ...models import BackgroundTask, FailedTask
from ...status import LIVE, UNSUCCESSFUL, Status
from ..shared import search_window
from ..shared.base import PageOfRows, badge, breakable, cell, find_processes, label_of, process_cell, short_id
from ..shared.formats import cut, duration, printable, split_name, write_moment
from ..shared.keyset_paginator import AFTER, BEFORE, KeysetPaginator, Page, read_id
from ..shared.no_drain import describe_processes_without_drain
from ..shared.paginator import count_up_to
from .address import NO_FILTERS
from .bulk_actions import BulkActions
from .export import Exports
from .filters import (
    ErrorFilter,
    FiredFilter,
    NameFilter,
    QueueFilter,
    ReleaseFilter,
    ShowFilter,
    StatusFilter,
    UserFilter,
)
from .link_filters import FingerprintFilter, FinishedFilter, TaskProcessFilter
from .page import describe
from .search import may_view_arguments, read_argument, search

MAX_ON_TAB = 999

# The columns of the list. The others are large: a page of them would have megabytes.
LIST_FIELDS = [
    *["id", "name", "status", "key", "created_at", "started_at", "finished_at", "run_after"],
    *["attempt", "max_attempts", "process", "cancel_requested_at", "error_type"],
]


class PageOfTasks(PageOfRows):
    """
    A page of the list by id rather than by number. Its rows and its count are read on demand.

    Actions and exports use the filter and the search of this class, but no page.
    """

    paginator: KeysetPaginator

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        for name in NO_FILTERS:
            self.params.pop(name, None)
            self.filter_params.pop(name, None)
        return super().get_queryset(request, exclude_parameters).only(*LIST_FIELDS)

    def get_results(self, request: HttpRequest) -> None:
        self.request = request
        self.paginator = KeysetPaginator(self.queryset, self.list_per_page)
        self.show_full_result_count = False
        self.show_admin_actions = True
        self.full_result_count = None
        self.can_show_all = self.multi_page = False

    @cached_property
    def page(self) -> Page:
        page = self.paginator.page_at(read_id(self.request.GET, BEFORE), read_id(self.request.GET, AFTER))
        found = find_processes(row.process for row in page.rows)
        for row in page.rows:
            row.process_label = label_of(row.process, found)
        return page

    @cached_property
    def result_list(self) -> list[Any]:  # In Django an attribute that `get_results` sets.
        return self.page.rows

    @cached_property
    def result_count(self) -> int:  # type: ignore[override]
        return self.paginator.count

    @property
    def turns(self) -> list[dict[str, str]]:
        """The links to the pages next to this one, in the order of the list."""
        rows = self.page.rows
        words = [(_("Newer"), AFTER), (_("Older"), BEFORE)]
        (back, back_by), (on, on_by) = words if self.paginator.is_newest_first else words[::-1]
        # From an empty page the way back leads to the first page.
        back_url = self.get_query_string({back_by: rows[0].pk} if rows else {}) if self.page.has_previous else ""
        on_url = self.get_query_string({on_by: rows[-1].pk}) if rows and self.page.has_next else ""
        return [
            {"label": f"‹ {back}", "url": back_url, "rel": "prev"},
            {"label": f"{on} ›", "url": on_url, "rel": "next"},
        ]

    @property
    def more_filters(self) -> list[Any]:
        """The folded filters. They are unfolded while one of them is in use."""
        return [spec for spec in self.filter_specs if getattr(spec, "is_folded", False)]

    @property
    def has_more_filters_in_use(self) -> bool:
        return any(spec.value() for spec in self.more_filters)

    @property
    def is_of_failures(self) -> bool:
        return self.params.get(ShowFilter.parameter_name) == "failed"

    @property
    def exports(self) -> Any:
        return self.model_admin.export_urls(self.request)  # type: ignore[attr-defined]

    @property
    def notes(self) -> list[str]:
        """Notes on the limits of the search, and on parts of the address that are not valid."""
        notes = search_window.describe(self.request)
        for spec in self.filter_specs:
            if getattr(spec, "is_wrong", False):
                text = _("“%(value)s” is no value of the filter “%(filter)s”, so nothing is found.")
                value = spec.value()  # type: ignore[attr-defined]  # All are SimpleListFilters.
                notes.append(text % {"value": cut(printable(value), 100).text, "filter": spec.title})
        term = self.query.strip()
        if term.startswith(("args.", "kwargs.")) and not read_argument(term):
            notes.append(_("An argument is searched for by name or position, and value: args.user_id:5, args.0:5."))
        if read_argument(term) and not may_view_arguments(self.request):
            text = _("To search for arguments takes the permission to view them: %(permission)s.")
            notes.append(text % {"permission": "bgtasks.view_task_args"})
        return notes

    @cached_property
    def tabs(self) -> list[dict[str, Any]]:
        """The links above the list, with numbers of tasks where an index gives them at once."""
        counts = self._count_by_tab()
        shown = next(each for each in self.filter_specs if isinstance(each, ShowFilter))
        choices = [(None, _("All")), *shown.lookup_choices]
        return [
            {
                "label": label,
                "count": counts.get(value),
                "name": value or "all",
                "url": self._url_of(value),
                "is_chosen": value == shown.value(),
            }
            for value, label in choices
        ]

    def _url_of(self, shown: str | None) -> str:
        return self.get_query_string({ShowFilter.parameter_name: shown}, remove=[StatusFilter.parameter_name])

    def _count_by_tab(self) -> dict[str | None, str]:
        tasks = BackgroundTask.objects.using(router.db_for_write(BackgroundTask))
        waiting = count_up_to(MAX_ON_TAB + 1, tasks.filter(status=Status.READY))
        running = count_up_to(MAX_ON_TAB + 1, tasks.filter(status=Status.RUNNING))
        failed = count_up_to(MAX_ON_TAB + 1, tasks.filter(status__in=UNSUCCESSFUL))
        counts = {"live": waiting + running, "waiting": waiting, "running": running, "failed": failed}
        return {name: f"{MAX_ON_TAB}+" if count > MAX_ON_TAB else str(count) for name, count in counts.items()}


@admin.register(BackgroundTask)
class BackgroundTaskAdmin(BulkActions, Exports):
    list_display = ["task", "state", "fired", "waited", "took", "attempts", "on_process"]
    list_display_links = ["task"]
    sortable_by = ["fired"]
    list_filter = [
        *[ShowFilter, StatusFilter, NameFilter, FiredFilter, QueueFilter, ReleaseFilter, ErrorFilter, UserFilter],
        *[TaskProcessFilter, FinishedFilter, FingerprintFilter],
    ]
    search_fields = ["id", "key", "name"]  # They make the form appear; `get_search_results` does the search.
    search_help_text = gettext_lazy("Id, key, name, args.user_id:5")

    class Media:
        css = {"all": ["bgtasks/lists.css"]}

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[PageOfTasks]:
        return PageOfTasks

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        return search(request, queryset, search_term), False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        found = describe_processes_without_drain(self, request)
        context = {"no_drain": found, "failures_url": self.list_of(FailedTask), **(extra_context or {})}
        return super().changelist_view(request, context)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        task: BackgroundTask = context["original"]
        context |= {"title": task.name, "subtitle": None, **describe(task, self, request)}
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description=gettext_lazy("task"))
    def task(self, task: BackgroundTask) -> SafeString:
        module, function = split_name(task.name)
        key = format_html('<span class="bgtasks-key" title="{}">{}</span>', _("Key"), task.key) if task.key else ""
        return format_html(
            '<span class="bgtasks-name">{}</span><span class="bgtasks-under">{} <span title="{}">{}</span> {}</span>',
            *(breakable(function), breakable(module), task.pk, short_id(task.pk), key),
        )

    @admin.display(description=gettext_lazy("status"))
    def state(self, task: BackgroundTask) -> SafeString:
        shown = badge(task.status, task.get_status_display())
        if task.cancel_requested_at and task.status in LIVE:
            return format_html('{} <span class="bgtasks-note">{}</span>', shown, _("cancel asked"))
        if task.error_type and task.status == Status.FAILED:
            note = '{} <span class="bgtasks-note bgtasks-note-error" title="{}">{}</span>'
            return format_html(note, shown, task.error_type, split_name(task.error_type)[1])
        return shown

    @admin.display(description=gettext_lazy("fired at"), ordering="id")
    def fired(self, task: BackgroundTask) -> SafeString:
        return cell(_("Fired at"), write_moment(task.created_at))

    @admin.display(description=gettext_lazy("waited"))
    def waited(self, task: BackgroundTask) -> SafeString:
        now = timezone.now()
        if task.status != Status.READY:
            return cell(_("Waited"), duration(task.waited))
        if task.run_after and task.run_after > now:
            return cell(_("Waited"), _("due in %(time)s") % {"time": duration(task.run_after - now)}, "bgtasks-going")
        return cell(_("Waited"), duration(now - task.created_at), "bgtasks-going")

    @admin.display(description=gettext_lazy("duration"))
    def took(self, task: BackgroundTask) -> SafeString:
        kind = "bgtasks-going" if task.status == Status.RUNNING else ""
        return cell(_("Duration"), duration(task.duration), kind)

    @admin.display(description=gettext_lazy("attempt"))
    def attempts(self, task: BackgroundTask) -> SafeString:
        kind = "bgtasks-again" if task.attempt > 1 else ""
        return cell(_("Attempt"), f"{task.attempt}/{task.max_attempts}", kind)

    @admin.display(description=gettext_lazy("process"))
    def on_process(self, task: BackgroundTask) -> SafeString:
        label: str = task.process_label  # type: ignore[attr-defined]  # Set by PageOfTasks.
        return process_cell(label)
