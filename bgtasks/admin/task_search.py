"""The search of the list of background tasks. What it looks at is bounded, whatever is typed and however many rows."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet

from ..definition import MAX_NAME_LENGTH, declared
from ..models import BackgroundTask

RECENT = 50_000  # Tasks searched where no index helps: by a finished task's key, and by a part of a name.
MAX_NAMES = 100  # Declared names that one search may match.


def search(rows: QuerySet[Any], term: str) -> QuerySet[Any]:
    """
    Narrow `rows` to the tasks with this id, this key or this in their name.

    Ids, keys of live tasks and names of declared task functions are found among all tasks, the rest among the newest.
    """
    term = term.strip()
    if not term:
        return rows
    if len(term) > MAX_NAME_LENGTH or "\x00" in term:  # PostgreSQL refuses NUL in a text.
        return rows.none()
    return rows.filter(_by_index(term) | _among_recent(rows.db, term))


def _by_index(term: str) -> Q:
    names = [name for name in sorted(declared) if term.lower() in name.lower()]
    found = Q(name__in=[term, *names[:MAX_NAMES]]) | Q(live_key=term)
    try:
        return found | Q(pk=UUID(term))
    except ValueError:
        return found


def _among_recent(alias: str, term: str) -> Q:
    matches = Q(key=term) | Q(name__icontains=term)
    ids = BackgroundTask.objects.using(alias).order_by("-pk").values_list("pk", flat=True)
    older = list(ids[RECENT : RECENT + 1])
    return matches & Q(pk__gt=older[0]) if older else matches
