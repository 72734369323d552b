"""The tasks of the last minute as swimlanes, for the overview and for the page of a process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.utils.translation import gettext as _

from ...models import Drain, Process
from ...status import Status
from ...uuid7 import first_id_of
from ..pictures.swimlanes import Bar, Mark, Swimlane, SwimlaneTask
from ..shared.formats import duration, printable

SECONDS = 60.0
LONGEST = timedelta(minutes=10)  # Tasks fired earlier are not drawn, even if they ended within the minute.
FIELDS = ("id", "name", "status", "process", "started_at", "finished_at", "stuck_after")


def ended_since(rows: Any, since: datetime) -> Any:
    """Narrow `rows` to tasks that ended since then, by ids: no index has the times of the ends."""
    return rows.filter(pk__gte=first_id_of(since - LONGEST), finished_at__gte=since).order_by("-id")


def show(row: Mapping[str, Any], url_of: Callable[[UUID], str], default: float | None) -> SwimlaneTask:
    """
    Return the task of a row of FIELDS that has started.

    Args:
        default: the setting STUCK_AFTER.
    """
    threshold = row["stuck_after"] if row["stuck_after"] is not None else default
    url = url_of(row["id"])
    return SwimlaneTask(row["id"], row["name"], row["status"], row["started_at"], row["finished_at"], threshold, url)


def find_marks(process: Process, drains: Sequence[Drain] = (), *, is_deploy: bool = False) -> Iterator[Mark]:
    """
    Yield the events in the life of a process.

    Args:
        drains: of any process.
        is_deploy: whether the process was the first one of its release.
    """
    if is_deploy and process.release:
        yield Mark("deploy", process.started_at, _("release %(release)s") % {"release": process.release})
    else:
        yield Mark("start", process.started_at, _("started"))
    for drain in drains:
        if drain.process == process.pk:
            yield Mark("drain", drain.started_at, _("drain"))
    if process.drain_requested_at and process.state in Process.UP:
        yield Mark("drain", process.drain_requested_at, _("asked to drain"))
    if process.state == Process.State.DEAD and process.stopped_at:
        yield Mark("end", process.stopped_at, _("declared dead"))


def describe_swimlanes(swimlanes: Iterable[tuple[Swimlane, str]], now: datetime) -> dict[str, Any]:
    """Return the values for `swimlanes.html` of swimlanes, each with its text for screen readers."""
    return {
        "swimlanes": [
            {
                "swimlane": swimlane,
                "text": text,
                "bars": [{"bar": bar, "text": _bar_text(bar, now)} for bar in swimlane.bars],
            }
            for swimlane, text in swimlanes
        ],
        "swimlanes_seconds": int(SECONDS),
        "swimlanes_half": int(SECONDS / 2),
    }


def _bar_text(bar: Bar, now: datetime) -> str:
    took = duration((bar.task.finished_at or now) - bar.task.started_at)
    return f"{printable(bar.task.name)} · {Status(bar.task.status).label} · {took}"
