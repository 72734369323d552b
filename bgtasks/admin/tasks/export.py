"""The export of the filtered list of background tasks as CSV or JSON, streamed in small batches of rows."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.core.handlers.asgi import ASGIRequest
from django.http import (
    HttpRequest,
    HttpResponseBadRequest,
    HttpResponseBase,
    HttpResponseNotAllowed,
    StreamingHttpResponse,
)
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from ...models.moments import MomentEncoder, to_utc
from ..shared.base import ReadOnlyAdmin
from ..shared.formats import printable, write_moment
from ..shared.keyset_paginator import walk
from .address import FORMAT, filters_in, with_query
from .arguments import hide_sealed
from .search import may_view_arguments

MAX_ROWS = 100_000
BATCH = 200  # Rows in memory: the arguments of a task may be large.

COLUMNS = (
    *("id", "name", "status", "queue_name", "priority", "key", "attempt", "max_attempts", "on_lost"),
    *("created_at", "run_after", "started_at", "finished_at", "process", "release"),
    *("error_type", "error_message", "error_fingerprint", "fired_again_from", "fired_by"),
)
ARGUMENTS = ("args", "kwargs")

# First characters of a formula in a spreadsheet: https://owasp.org/www-community/attacks/CSV_Injection
FORMULA = tuple("=+-@\t\r\n＝＋－＠")

Rows = Iterator[list[dict[str, Any]]]


class Exports(ReadOnlyAdmin):
    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.export_view)
        return [path("export/", view, name="bgtasks_backgroundtask_export"), *super().get_urls()]

    def export_view(self, request: HttpRequest) -> HttpResponseBase:
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        if not self.has_view_permission(request):
            raise PermissionDenied
        kind = request.GET.get(FORMAT, "")
        if kind not in WRITERS:
            return HttpResponseBadRequest("?format=csv, ?format=json")
        try:
            found: Any = self.get_changelist_instance(request)
        except IncorrectLookupParameters:
            return HttpResponseBadRequest("No such filter.")
        columns = (*COLUMNS, *ARGUMENTS) if may_view_arguments(request) else COLUMNS
        content_type, write = WRITERS[kind]
        parts = write(columns, _Source(found.queryset, columns, found.notes))
        is_asynchronous = isinstance(request, ASGIRequest)
        response = StreamingHttpResponse(_asynchronous(parts) if is_asynchronous else parts, content_type)
        moment = re.sub(r"[ :]", "-", write_moment(timezone.now()))
        response["Content-Disposition"] = f'attachment; filename="background-tasks-{moment}.{kind}"'
        response["X-Content-Type-Options"] = "nosniff"
        return response

    def export_urls(self, request: HttpRequest) -> list[tuple[str, str]]:
        """Return the label and the address of each export of the list with its current filter."""
        url = reverse("admin:bgtasks_backgroundtask_export", current_app=self.admin_site.name)
        return [(kind.upper(), with_query(url, [*filters_in(request), (FORMAT, kind)])) for kind in WRITERS]


class _Source:
    """Iterates over the rows of an export in batches. Afterwards it has their number and the notes on them."""

    def __init__(self, rows: Any, columns: Sequence[str], notes: Sequence[str]) -> None:
        self.rows = rows
        self.columns = columns
        self.notes = [*notes]
        self.count = 0
        self.is_cut = False

    def __iter__(self) -> Rows:
        for found in walk(self.rows, self.columns, MAX_ROWS + 1, BATCH):
            wanted = found[: MAX_ROWS - self.count]
            self.is_cut = len(wanted) < len(found)
            self.count += len(wanted)
            yield [_without_sealed(row) for row in wanted]
        if self.is_cut:
            text = _("Only the newest %(count)s tasks that match are here. Filter for fewer to have the others.")
            self.notes.append(text % {"count": MAX_ROWS})


def write_csv(columns: Sequence[str], source: _Source) -> Iterator[str]:
    """Yield a line with the names of the columns, a line for each row, and a last line for each note, after "#"."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(columns)
    for rows in source:
        writer.writerows([[_cell(row[name]) for name in columns] for row in rows])
        yield _take(buffer)
    writer.writerows([[f"# {note}"] for note in source.notes])
    yield _take(buffer)


def write_json(columns: Sequence[str], source: _Source) -> Iterator[str]:
    """Yield an object: `tasks`, their `count`, whether the list is `cut`, and `notes` in the user's language."""
    yield '{"tasks": ['
    separator = "\n"
    for rows in source:
        lines = [_json(row) for row in rows]
        if lines:
            yield separator + ",\n".join(lines)
            separator = ",\n"
    yield f'\n], "count": {source.count}, "cut": {_json(source.is_cut)}, "notes": {_json(source.notes)}}}\n'


WRITERS: dict[str, tuple[str, Callable[[Sequence[str], _Source], Iterator[str]]]] = {
    "csv": ("text/csv; charset=utf-8", write_csv),
    "json": ("application/json", write_json),
}


async def _asynchronous(parts: Iterator[str]) -> AsyncIterator[str]:
    """Yield the parts, each made on the thread of the request. ASGI would gather a plain iterator in memory."""
    while (part := await sync_to_async(lambda: next(parts, None))()) is not None:
        yield part


def _without_sealed(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, **{name: hide_sealed(row[name]) for name in ARGUMENTS if name in row}}


def _cell(value: Any) -> Any:
    r"""
    Return a value as a cell that spreadsheets do not take for a formula.

    >>> [_cell(value) for value in ("=1+1", " @x", "-1", -1, None, ["a"], "\ud800")]
    ["'=1+1", "' @x", "'-1", -1, '', '["a"]', '\\ud800']
    """
    if value is None:
        return ""
    if isinstance(value, int):
        return value
    if isinstance(value, list | dict):
        value = _json(value)
    elif isinstance(value, datetime):
        return to_utc(value).isoformat()
    text = printable(value).replace("\x00", "\\x00")
    return f"'{text}" if text.startswith(FORMULA) or text.lstrip().startswith(FORMULA) else text


def _json(value: Any) -> str:
    try:
        return json.dumps(value, cls=MomentEncoder)
    except (TypeError, ValueError, RecursionError):
        return json.dumps(_("This value cannot be shown."))


def _take(buffer: io.StringIO) -> str:
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return text
