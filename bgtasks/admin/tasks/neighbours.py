"""The tasks beside a task: the last ones of its function, and those with the same key. The queries are bounded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from uuid import UUID

from django.db.models import QuerySet
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from ...models import BackgroundTask
from ..pictures import strip
from ..pictures.strip import COUNT, Past
from ..shared.base import short_id
from ..shared.formats import duration, printable, status_label, write_moment

if TYPE_CHECKING:
    from ..shared.base import ReadOnlyAdmin

NEAR = 2_000  # Tasks searched for a key before and after a task: no index has the keys of finished tasks.
MAX_BESIDE = 5  # Tasks with the same key, in each direction.

_OF_STRIP = ("pk", "status", "started_at", "finished_at")


def function_url(name: str, admin: ReadOnlyAdmin) -> str:
    """Return the address of a function's page, or "" where it is not in this admin site."""
    try:
        url = reverse("admin:bgtasks_taskfunction_function", current_app=admin.admin_site.name)
    except NoReverseMatch:
        return ""
    return f"{url}?{urlencode({'name': printable(name)})}"


def find_strip(
    using: str | None, names: Sequence[str], admin: ReadOnlyAdmin, now: datetime, current: BackgroundTask | None = None
) -> dict[str, Any]:
    """Return the strip of the last tasks with these names, with `current` even if it is older. One query per name."""
    rows = BackgroundTask.objects.using(using)
    found: dict[UUID, Past] = {}
    for name in names:
        for values in rows.filter(name=name).order_by("-pk").values_list(*_OF_STRIP)[:COUNT]:
            found[values[0]] = Past(*values)
    tasks = sorted(found.values(), key=lambda task: task.id)[-COUNT:]
    is_older = current is not None and current.pk not in found
    if current is not None and is_older:
        own = Past(current.pk, current.status, current.started_at, current.finished_at)
        tasks = [own, *tasks[-COUNT + 1 :]]
    drawn = strip.draw(tasks, now, current.pk if current is not None else None)
    return {
        "strip": drawn,
        "strip_bars": [
            {"bar": bar, "url": admin.page_of(BackgroundTask, bar.task.id), "text": _bar_text(bar)}
            for bar in drawn.bars
        ],
        "strip_text": _strip_text(tasks),
        "strip_longest": duration(drawn.longest),
        "strip_is_older": is_older,
    }


def _bar_text(bar: strip.Bar) -> str:
    text = f"{status_label(bar.task.status)} · {duration(bar.seconds)} · {short_id(bar.task.id)}"
    return _("%(task)s (this one)") % {"task": text} if bar.is_current else text


def _strip_text(tasks: Sequence[Past]) -> str:
    counts = Counter(status_label(task.status) for task in tasks)
    parts = ", ".join(f"{count} {label}" for label, count in counts.most_common())
    text = ngettext(
        "The only task of this function: %(parts)s",
        "The last %(count)s tasks of this function: %(parts)s",
        len(tasks),
    )
    return text % {"count": len(tasks), "parts": parts}


def find_same_key(task: BackgroundTask, admin: ReadOnlyAdmin) -> dict[str, Any] | None:
    """
    Return the tasks with the same key that were fired shortly before and after this one, the newest first.

    The live one is found at any distance. None for a task without a key.
    """
    if not task.key:
        return None
    rows = BackgroundTask.objects.using(task._state.db).only("name", "status", "created_at")
    older = rows.filter(pk__lt=task.pk).order_by("-pk")
    newer = rows.filter(pk__gt=task.pk).order_by("pk")
    later = list(_among_near(newer, "pk__lte", task.key))
    live = rows.filter(live_key=task.key).exclude(pk__in=[task.pk, *(row.pk for row in later)]).first()
    earlier = list(_among_near(older, "pk__gte", task.key))
    if live is not None and live.pk > task.pk:
        later.append(live)
    elif live is not None and live.pk not in {row.pk for row in earlier}:
        earlier.append(live)
    url = admin.list_of(BackgroundTask)
    return {
        "later": list(_describe(reversed(later), task, admin)),
        "earlier": list(_describe(earlier, task, admin)),
        "search_url": f"{url}?{urlencode({'q': task.key})}" if url else "",
        "near": NEAR,
    }


def _among_near(rows: QuerySet[BackgroundTask], bound: str, key: str) -> QuerySet[BackgroundTask]:
    """Return the nearest rows with the key among the next NEAR rows."""
    last = list(rows.values_list("pk", flat=True)[NEAR - 1 : NEAR])
    near = rows.filter(**{bound: last[0]}) if last else rows
    return near.filter(key=key)[:MAX_BESIDE]


def _describe(rows: Any, task: BackgroundTask, admin: ReadOnlyAdmin) -> Iterator[dict[str, Any]]:
    for row in rows:
        yield {
            "url": admin.page_of(BackgroundTask, row.pk),
            "id": short_id(row.pk),
            "name": row.name if row.name != task.name else "",
            "status": row.status,
            "label": row.get_status_display(),
            "at": write_moment(row.created_at, milliseconds=True),
        }
