"""The progress that a task reported, from the JSON in its row: {done, total, note, at}. Any value may be wrong."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Any

from django.utils.translation import gettext as _

from ...models import BackgroundTask
from ...models.moments import parse_moment
from ...status import Status
from ..pictures import WIDTH
from ..shared.formats import cut, duration, pretty_json, printable, write_moment

MAX_NOTE = 200  # Characters.
MAX_PERCENT = 999


def describe_progress(task: BackgroundTask) -> dict[str, Any] | None:
    """Return the progress for a template; None if the task has reported none."""
    stored = task.progress
    if stored is None:
        return None
    done = _number(stored.get("done")) if isinstance(stored, dict) else None
    if done is None:
        return {"other": pretty_json(stored)}
    total, at = _number(stored.get("total")), parse_moment(stored.get("at"))
    return {
        "width": None if not total else round(WIDTH * min(done / total, 1.0), 1),
        "words": _words(done, total),
        "note": cut(printable(stored.get("note") or ""), MAX_NOTE).text,
        "at": write_moment(at) if at else "",
        "left": _left(task, done, total, at),
    }


def _words(done: float, total: float | None) -> str:
    if not total:
        return _("%(done)s done") % {"done": _write(done)}
    percent = math.floor(min(100 * done / total, MAX_PERCENT))
    values = {"percent": percent, "done": _write(done), "total": _write(total)}
    return _("%(percent)s %%: %(done)s of %(total)s") % values


def _left(task: BackgroundTask, done: float, total: float | None, at: datetime | None) -> str:
    """Estimate the remaining time from the pace of this attempt."""
    if task.status != Status.RUNNING or not total or not 0 < done < total or at is None or task.started_at is None:
        return ""
    try:
        seconds = (at - task.started_at).total_seconds() * (total - done) / done
        return _("about %(time)s left") % {"time": duration(timedelta(seconds=seconds))} if seconds > 0 else ""
    except (OverflowError, TypeError):  # A far-off moment, or one without a time zone.
        return ""


def _number(value: object) -> float | None:
    """
    >>> _number(3), _number(0.5), _number(True), _number("3"), _number(-1), _number(float("nan")), _number(10**400)
    (3.0, 0.5, None, None, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _write(number: float) -> str:
    """
    >>> _write(3.0), _write(0.25), _write(1234567.0)
    ('3', '0.25', '1234567')
    """
    return f"{number:.0f}" if number == int(number) else f"{number:g}"
