"""
The limits of searches without an index: they read the newest background tasks only.

A limit is an id, since ids sort by time. Each one is read once per request, and the page notes the limits that apply.
"""

from __future__ import annotations

from uuid import UUID

from django.db.models import Q
from django.http import HttpRequest
from django.utils.translation import gettext as _

from ...definition import MAX_NAME_LENGTH
from ...models import BackgroundTask
from ...status import UNSUCCESSFUL

RECENT = 20_000  # Tasks of any status.
RECENT_FAILED = 3_000  # Tasks of each unsuccessful status.
MAX_DIGITS = 18  # Of a number that every database holds exactly.


def newest(request: HttpRequest, alias: str) -> Q:
    """Return the condition of being among the newest tasks."""
    edge = _find_edge(request, alias, None, RECENT)
    return Q(pk__gt=edge) if edge else Q()


def newest_failed(request: HttpRequest, alias: str) -> Q:
    """Return the condition of being among the newest failed, interrupted or lost tasks."""
    found = Q(pk__in=[])
    for status in UNSUCCESSFUL:
        edge = _find_edge(request, alias, status, RECENT_FAILED)
        found |= Q(status=status, pk__gt=edge) if edge else Q(status=status)
    return found


def describe(request: HttpRequest) -> list[str]:
    """Return notes on the limits that applied to this request."""
    cut = {status for (_alias, status), edge in _edges(request).items() if edge is not None}
    notes = []
    if None in cut:
        text = _("Only the newest %(count)s tasks are searched for this, since no index covers it.")
        notes.append(text % {"count": RECENT})
    if cut - {None}:
        text = _("Only the newest %(count)s tasks that failed, were interrupted or got lost are searched for this.")
        notes.append(text % {"count": RECENT_FAILED})
    return notes


def is_searchable(text: str) -> bool:
    """
    Return whether a column may hold a text. PostgreSQL refuses NUL, and all databases half of a surrogate pair.

    >>> [is_searchable(text) for text in ("naïve", "a\\x00b", "\\ud800", "x" * 201)]
    [True, False, False, False]
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return len(text) <= MAX_NAME_LENGTH and "\x00" not in text


def _edges(request: HttpRequest) -> dict[tuple[str, str | None], UUID | None]:
    edges: dict[tuple[str, str | None], UUID | None] = request.__dict__.setdefault("_bgtasks_edges", {})
    return edges


def _find_edge(request: HttpRequest, alias: str, status: str | None, count: int) -> UUID | None:
    """Return the newest id outside the limit, by an index; None if all tasks are within it."""
    edges = _edges(request)
    if (alias, status) not in edges:
        rows = BackgroundTask.objects.using(alias).order_by("-pk")
        rows = rows.filter(status=status) if status else rows
        edges[alias, status] = next(iter(rows.values_list("pk", flat=True)[count : count + 1]), None)
    return edges[alias, status]
