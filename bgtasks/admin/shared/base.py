"""The common base of the pages: read-only rows, links to other pages, and cells and badges of lists."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db import models, router
from django.db.models import QuerySet
from django.db.models.options import Options
from django.forms import Script
from django.http import HttpRequest, HttpResponse
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from ...failure import storable
from ...models import BackgroundTask, Process
from .formats import printable
from .paginator import CappedPaginator

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:
    ModelAdmin = admin.ModelAdmin


MAX_ON_ONE_LINE = 20  # Characters of a process in a list; a longer one is wrapped.


class Fact(NamedTuple):
    """A line in the summary of a page."""

    label: str
    value: object
    note: str = ""
    url: str = ""


class ReadOnlyAdmin(ModelAdmin):
    """Shows rows to users with the permission to view them. Only the runtime writes them."""

    actions: Sequence[str] | None = None
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # A facet counts the whole table.
    paginator = CappedPaginator
    list_per_page = 50
    list_max_show_all = 0
    ordering = ["-id"]  # By time: ids are UUIDv7.

    class Media:
        css = {"all": ["bgtasks/admin.css", "bgtasks/pictures.css"]}
        js = [Script("bgtasks/admin.js", defer=True)]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[PageOfRows]:
        return PageOfRows

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Read from the database to which the runtime writes: on a replica a finished task may still be running."""
        return super().get_queryset(request).using(router.db_for_write(BackgroundTask))

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """
        Allow only the parameters of the filters.

        `?args__regex=…` would read the whole table, and PostgreSQL raises an error for NUL.
        """
        return lookup in {each.parameter_name for each in self.get_list_filter(request)}  # type: ignore[arg-type,union-attr]  # All are SimpleListFilters.

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return super().changelist_view(request, {"title": title_of(self.opts), **(extra_context or {})})

    def page_of(self, model: type[models.Model], pk: object) -> str:
        """Return the address of the page of a row, or "" if the model is not in this admin site."""
        return self._address(f"{model._meta.app_label}_{model._meta.model_name}_change", [pk])

    def list_of(self, model: type[models.Model]) -> str:
        return self._address(f"{model._meta.app_label}_{model._meta.model_name}_changelist", [])

    def tasks_url(self, **filters: str) -> str:
        """Return the address of the list of background tasks, filtered."""
        url = self.list_of(BackgroundTask)
        return f"{url}?{urlencode({name: printable(value) for name, value in filters.items()})}" if url else ""

    def _address(self, name: str, args: list[object]) -> str:
        try:
            return reverse(f"admin:{name}", args=args, current_app=self.admin_site.name)
        except NoReverseMatch:
            return ""


class PageOfRows(ChangeList):
    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = self.paginator.rows_of(self.page_num if self.multi_page else 1)


class PageOfRowsWithProcess(PageOfRows):
    """The rows of one page with their processes. These take a query, since the rows have no foreign key for a join."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        rows = list(self.result_list)
        found = find_processes(row.process for row in rows)
        for row in rows:
            row.process_label = label_of(row.process, found)
        self.result_list = rows


def find_processes(ids: Iterable[UUID | None]) -> dict[UUID, Process]:
    wanted = {each for each in ids if each}
    if not wanted:
        return {}
    rows = Process.objects.using(router.db_for_write(BackgroundTask)).only("id", "host", "pid", "server", "state")
    return rows.in_bulk(wanted)


def label_of(process_id: UUID | None, found: dict[UUID, Process]) -> str:
    if process_id is None:
        return "–"
    process = found.get(process_id)
    return f"{process.host}:{process.pid}" if process else short_id(process_id)


def short_id(row_id: UUID) -> str:
    """Return the end of an id, which is random. Its beginning, the time, hardly differs between new rows."""
    return f"…{row_id.hex[-8:]}"


def process_cell(label: str) -> SafeString:
    if len(label) <= MAX_ON_ONE_LINE:
        return cell(_("Process"), label)
    return cell(_("Process"), breakable(label), "bgtasks-wraps")


def name_user(request: HttpRequest) -> str:
    """Return the name of the user for the history of a task."""
    return storable(f"user {request.user.get_username()}")[:200]


def title_of(opts: Options[Any]) -> str:
    """Return the name of a page without the leading spaces that sort it in the index."""
    return str(capfirst(str(opts.verbose_name_plural).strip()))


def badge(status: str, label: object) -> SafeString:
    """Return a status as a badge. The CSS class has the name of the status, if that is a plain word."""
    name = status.lower() if status.isascii() and status.isalpha() else "unknown"
    return format_html('<span class="bgtasks-badge bgtasks-is-{}">{}</span>', name, label)


def breakable(name: str) -> SafeString:
    """Let a long name break after dots, underscores and other separators instead of within a word."""
    return format_html_join(mark_safe("<wbr>"), "{}", ((part,) for part in re.split(r"(?<=[._:@/])", name)))


def cell(label: object, value: object, kind: str = "") -> SafeString:
    """Return a cell of a list. Narrow screens show its label in place of the head of the table."""
    template = '<span class="bgtasks-label">{}</span><span class="bgtasks-value {}">{}</span>'
    return format_html(template, label, kind, value)
