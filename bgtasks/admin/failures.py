"""The page "Failed": unsuccessful tasks, grouped by the same error at the same place, with a sample of each group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import admin
from django.db.models.functions import Right
from django.http import HttpRequest
from django.utils import timezone
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ..definition import declared
from ..models import BackgroundTask, FailedTask
from ..status import UNSUCCESSFUL
from .pictures import sparkline
from .shared.base import breakable
from .shared.formats import duration, printable, split_name, status_label, time_since, write_minute
from .shared.page import PageAdmin
from .shared.search_window import RECENT_FAILED
from .tasks.bulk_actions import BULK_ACTIONS
from .tasks.link_filters import NO_FINGERPRINT
from .tasks.traceback import HEADER, read_traceback

MAX_GROUPS = 100
POINTS = 32  # Of a sparkline.
SHORTEST = timedelta(hours=1)  # Of the period of a sparkline.
MAX_MESSAGE, MAX_PLACE = 300, 150  # Characters.
TRACEBACK_END = 4000  # Characters read from the end of a traceback.

ORDERS = {
    "latest": gettext_lazy("Latest first"),
    "most": gettext_lazy("Most first"),
}
PERMISSIONS = {"fire_tasks_again": "bgtasks.fire_task", "delete_tasks": "bgtasks.delete_backgroundtask"}
BUTTONS = {"fire_tasks_again": gettext_lazy("Fire all again"), "delete_tasks": gettext_lazy("Delete all")}


class Failed(NamedTuple):
    """The columns of a failed task, without the large ones."""

    id: UUID
    name: str
    status: str
    fingerprint: str
    finished_at: datetime | None


@dataclass
class Group:
    """
    Tasks that failed in the same way.

    Args:
        name: the name of the function; if it is known here, not an alias.
        status: matters for tasks without a fingerprint: interrupted or lost ones have no error.
        moments: the times at which they ended.
        sample: the newest of them.
    """

    name: str
    fingerprint: str
    status: str
    sample: UUID
    moments: list[datetime] = field(default_factory=list)
    count: int = 0

    def filters(self) -> dict[str, str]:
        """Return the filters that find these rows in the list of all tasks."""
        found = {"show": "failed", "name": self.name, "fingerprint": self.fingerprint or NO_FINGERPRINT}
        return found if self.fingerprint else {**found, "status": self.status}


@admin.register(FailedTask)
class FailedTaskAdmin(PageAdmin):
    template = "admin/bgtasks/failures.html"

    class Media:
        css = {"all": ["bgtasks/lists.css"]}

    def describe(self, request: HttpRequest) -> dict[str, Any]:
        now = timezone.now()
        order = request.GET.get("order", "")
        order = order if order in ORDERS else "latest"
        rows, are_more = self._read()
        groups = sort(group_up(rows), order)
        shown = groups[:MAX_GROUPS]
        start = min((moment for group in shown for moment in group.moments), default=now)
        start = min(start, now - SHORTEST)
        return {
            "groups": list(self._describe_groups(request, shown, start, now)),
            "count": len(rows),
            "are_more": are_more,
            "most": RECENT_FAILED,
            "left_out": len(groups) - len(shown),
            "span": duration(now - start),
            "orders": [(name, label, name == order) for name, label in ORDERS.items()],
            "rows_url": self.tasks_url(**{"show": "failed"}),
        }

    def _read(self) -> tuple[list[Failed], bool]:
        """
        Return the newest rows, and whether there are more.

        Each status takes a query, which an index answers in this order. For a single query a database would read and
        sort all failed tasks, or all tasks. Once there are enough rows, older ones of other statuses are not read.
        """
        columns = ("id", "name", "status", "error_fingerprint", "finished_at")
        rows: list[Failed] = []
        for status in UNSUCCESSFUL:
            found = BackgroundTask.objects.using(self.using).filter(status=status).order_by("-pk")
            if len(rows) > RECENT_FAILED:
                found = found.filter(pk__gt=rows[RECENT_FAILED].id)
            rows += [Failed(*row) for row in found.values_list(*columns)[: RECENT_FAILED + 1]]
            rows.sort(key=lambda row: row.id, reverse=True)
        return rows[:RECENT_FAILED], len(rows) > RECENT_FAILED

    def _describe_groups(
        self, request: HttpRequest, groups: Sequence[Group], start: datetime, now: datetime
    ) -> Iterator[dict[str, Any]]:
        rows = BackgroundTask.objects.using(self.using).only("error_type", "error_message")
        rows = rows.annotate(traceback_end=Right("traceback", TRACEBACK_END))
        samples: dict[UUID, Any] = rows.in_bulk([group.sample for group in groups])
        for group in groups:
            module, function = split_name(printable(group.name))
            yield {
                **_describe_error(group, samples.get(group.sample)),
                "function": breakable(function),
                "module": breakable(module),
                "count": group.count,
                "first": write_minute(min(group.moments, default=None)),
                "last": write_minute(max(group.moments, default=None)),
                "last_age": _age(max(group.moments, default=None), now),
                "picture": sparkline.draw(count_by_time(group.moments, start, now), 1.0),
                "sample_url": self.page_of(BackgroundTask, group.sample),
                "rows_url": self.tasks_url(**group.filters()),
                "buttons": list(self._buttons(request, group)),
            }

    def _buttons(self, request: HttpRequest, group: Group) -> Iterator[dict[str, Any]]:
        for name, permission in PERMISSIONS.items():
            url = self._address("bgtasks_backgroundtask_ask", [name])
            if url and request.user.has_perm(permission):
                url = f"{url}?{urlencode(group.filters())}"
                yield {"label": BUTTONS[name], "url": url, "is_alarming": BULK_ACTIONS[name].is_alarming}


def group_up(rows: Sequence[Failed]) -> list[Group]:
    """Return the groups of rows, which must be sorted by id, newest first."""
    groups: dict[tuple[str, str, str], Group] = {}
    for row in rows:
        function = declared.get(row.name)
        name = function.name if function is not None else row.name
        key = (name, row.fingerprint, "" if row.fingerprint else row.status)
        group = groups.get(key)
        if group is None:
            group = groups[key] = Group(name, row.fingerprint, row.status, row.id)
        group.count += 1
        if row.finished_at is not None:
            group.moments.append(row.finished_at)
    return list(groups.values())


def sort(groups: list[Group], order: str) -> list[Group]:
    if order == "most":
        return sorted(groups, key=lambda group: group.count, reverse=True)
    # Groups without a moment are last. No default could be compared with both naive and aware moments.
    dated = sorted((group for group in groups if group.moments), key=lambda group: max(group.moments), reverse=True)
    return [*dated, *(group for group in groups if not group.moments)]


def count_by_time(moments: Sequence[datetime], start: datetime, end: datetime) -> list[int]:
    """
    Return the number of moments in each of POINTS equal parts of a period.

    >>> start = datetime(2026, 1, 1)
    >>> counts = count_by_time([start, start + timedelta(hours=8)], start, start + timedelta(hours=32))
    >>> counts[:9], sum(counts)
    ([1, 0, 0, 0, 0, 0, 0, 0, 1], 2)
    """
    counts = [0] * POINTS
    for moment in moments:
        place = (moment - start) / (end - start) * POINTS
        counts[min(max(int(place), 0), POINTS - 1)] += 1
    return counts


def _describe_error(group: Group, sample: Any) -> dict[str, Any]:
    """Return the error of a group. `sample`, its newest row, may have been deleted: then it is None."""
    error = printable(sample.error_type or _("Error")) if sample is not None and group.fingerprint else ""
    module, name = split_name(error)
    message = printable(sample.error_message).strip() if sample is not None else ""
    return {
        "is_error": bool(group.fingerprint),
        "status": group.status,
        "status_label": status_label(group.status),
        "error_class": breakable(name),
        "error_module": breakable(module),
        "message": Truncator(message).chars(MAX_MESSAGE),
        "place": _place(sample.traceback_end) if sample is not None else "",
    }


def _place(traceback_end: str) -> str:
    """
    Return the innermost line of the project's own code in a traceback; without one, the line that raised the error.

    >>> _place('half of a line\\n  File "/srv/shop/tasks.py", line 4, in send\\nOSError')
    'tasks.py:4 in send'
    >>> _place("cut to pieces")
    ''
    """
    frames = traceback_end[max(traceback_end.find("\n  File "), 0) :]
    for raised in read_traceback(f"{HEADER}{frames}")[:1]:
        for frame in [*raised.project_frames, *raised.frames][:1]:
            return printable(f"{frame.base}:{frame.line} in {frame.function}")[:MAX_PLACE]
    return ""


def _age(moment: datetime | None, now: datetime) -> str:
    if moment is None:
        return ""
    return _("%(time)s ago") % {"time": time_since(moment, now)}
