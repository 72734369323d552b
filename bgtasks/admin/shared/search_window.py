"""
How far back the list of background tasks looks where no index helps: a bound on what any filter and any search reads.

The bounds are ids, which sort by time. Each is read once for a request, and the page says which of them cut something.
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
RECENT_FAILED = 3_000  # Tasks of each of the statuses that say that something went wrong.


def newest(request: HttpRequest, alias: str) -> Q:
    """Return the condition of being among the newest tasks."""
    edge = _find_edge(request, alias, None, RECENT)
    return Q(pk__gt=edge) if edge else Q()


def newest_failed(request: HttpRequest, alias: str) -> Q:
    """Return the condition of being among the newest of those that failed, that were interrupted or that got lost."""
    found = Q(pk__in=[])
    for status in UNSUCCESSFUL:
        edge = _find_edge(request, alias, status, RECENT_FAILED)
        found |= Q(status=status, pk__gt=edge) if edge else Q(status=status)
    return found


def describe(request: HttpRequest) -> list[str]:
    """Return what the page has to say of where it has not looked."""
    cut = {status for (_alias, status), edge in _edges(request).items() if edge is not None}
    notes = []
    if None in cut:
        text = _("Only the newest %(count)s tasks are looked through for this: no index knows it.")
        notes.append(text % {"count": RECENT})
    if cut - {None}:
        text = _(
            "Only the newest %(count)s tasks that failed, were interrupted or got lost are looked through for this."
        )
        notes.append(text % {"count": RECENT_FAILED})
    return notes


def is_searchable(text: str) -> bool:
    """
    Tell whether a column may hold this text: PostgreSQL refuses NUL, and no database takes half of a surrogate pair.

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
    """Return the newest id that is too old, which an index tells; None where all are new enough."""
    edges = _edges(request)
    if (alias, status) not in edges:
        rows = BackgroundTask.objects.using(alias).order_by("-pk")
        rows = rows.filter(status=status) if status else rows
        edges[alias, status] = next(iter(rows.values_list("pk", flat=True)[count : count + 1]), None)
    return edges[alias, status]
