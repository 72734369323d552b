"""What the three pages have in common: rows that nobody changes by hand, and how links and badges are written."""

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

from ...models import BackgroundTask, Process
from .formats import printable
from .paginator import CappedPaginator

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:
    ModelAdmin = admin.ModelAdmin


MAX_ON_ONE_LINE = 20  # Characters of a process in a list; a longer host name takes more lines.


class Fact(NamedTuple):
    """A line of a page's summary."""

    label: str
    value: object
    note: str = ""
    url: str = ""


class ReadOnlyAdmin(ModelAdmin):
    """Shows rows to whoever may view them. Only the runtime writes them."""

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
        """Read where the runtime writes: a replica shows a task as running that has long finished."""
        return super().get_queryset(request).using(router.db_for_write(BackgroundTask))

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Allow what the filters offer. `?args__regex=…` reads the whole table, and NUL is an error in PostgreSQL."""
        return lookup in {each.parameter_name for each in self.get_list_filter(request)}  # type: ignore[arg-type,union-attr]  # All are SimpleListFilters.

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return super().changelist_view(request, {"title": title_of(self.opts), **(extra_context or {})})

    def page_of(self, model: type[models.Model], pk: object) -> str:
        """Return the address of a row's page, or "" where that model is not in this admin site."""
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
    """The rows of one page, and in one more query the processes they name: there is no foreign key to join by."""

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
    """Return the end of an id, which is random; its beginning is the time and much the same in all new rows."""
    return f"…{row_id.hex[-8:]}"


def process_cell(label: str) -> SafeString:
    if len(label) <= MAX_ON_ONE_LINE:
        return cell(_("Process"), label)
    return cell(_("Process"), breakable(label), "bgtasks-wraps")


def title_of(opts: Options[Any]) -> str:
    """Return the name of a page, without the spaces by which it is sorted."""
    return str(capfirst(str(opts.verbose_name_plural).strip()))


def badge(status: str, label: object) -> SafeString:
    """Return a status in its colour. The colour's name is the status, where it is one that the style sheet may know."""
    name = status.lower() if status.isascii() and status.isalpha() else "unknown"
    return format_html('<span class="bgtasks-badge bgtasks-is-{}">{}</span>', name, label)


def breakable(name: str) -> SafeString:
    """Let a long name break after its dots and underscores rather than within a word."""
    return format_html_join(mark_safe("<wbr>"), "{}", ((part,) for part in re.split(r"(?<=[._:@/])", name)))


def cell(label: object, value: object, kind: str = "") -> SafeString:
    """Return a cell of a list; its label is seen where there is no room for the table's head."""
    template = '<span class="bgtasks-label">{}</span><span class="bgtasks-value {}">{}</span>'
    return format_html(template, label, kind, value)
