"""The tiles at the head of the overview: a number each, coloured if it needs attention."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _

from ...models import Process
from ...status import Status
from ..shared.formats import number, percent
from ..shared.recent_totals import DAY
from .readings import MAX_COUNT, Readings

if TYPE_CHECKING:
    from ..shared.base import ReadOnlyAdmin


@dataclass(frozen=True)
class Tile:
    name: str
    label: str
    value: str
    note: str = ""
    url: str = ""
    kind: str = ""  # "alarm", "warning" or empty.


def find_tiles(admin: ReadOnlyAdmin, readings: Readings) -> Iterator[Tile]:
    yield Tile("running", _("Running"), _capped(readings.running), url=admin.tasks_url(show="running"))
    yield Tile("waiting", _("Waiting"), _capped(readings.waiting), url=admin.tasks_url(show="waiting"))
    yield from _find_ended(admin, readings)
    yield _find_processes(admin, readings)


def _find_ended(admin: ReadOnlyAdmin, readings: Readings) -> Iterator[Tile]:
    """Yield the tiles of the tasks that ended in the last 24 h."""
    day: Counter[str] = sum((total.statuses for total in readings.totals[DAY].values()), Counter())
    ok, failed, cut, lost = (day[s] for s in (Status.SUCCESSFUL, Status.FAILED, Status.INTERRUPTED, Status.LOST))
    rate = _("%(rate)s of the tasks that ran") % {"rate": percent(failed / (ok + failed))} if failed else ""
    yield Tile("successful", _("Succeeded, 24 h"), number(ok), url=admin.tasks_url(status="SUCCESSFUL", fired="day"))
    yield Tile(
        "failed",
        _("Failed, 24 h"),
        number(failed),
        rate,
        admin.tasks_url(status="FAILED", fired="day"),
        "alarm" if failed else "",
    )
    yield Tile(
        "lost",
        _("Interrupted and lost, 24 h"),
        number(cut + lost),
        _("%(cut)s interrupted, %(lost)s lost") % {"cut": cut, "lost": lost} if cut + lost else "",
        admin.tasks_url(show="failed", fired="day"),
        "warning" if cut + lost else "",
    )


def _find_processes(admin: ReadOnlyAdmin, readings: Readings) -> Tile:
    draining = sum(process.state == Process.State.DRAINING for process in readings.up)
    blocked = sum(process.blocked_since is not None for process in readings.up)
    day_ago = readings.now - timedelta(hours=24)
    dead = sum(
        process.state == Process.State.DEAD and (process.stopped_at or process.started_at) > day_ago
        for process in readings.processes
    )
    parts = [
        (blocked, _("%(count)s blocked")),
        (draining, _("%(count)s draining")),
        (dead, _("%(count)s died in 24 h")),
    ]
    note = ", ".join(text % {"count": count} for count, text in parts if count)
    kind = "alarm" if blocked or dead else ""
    return Tile("processes", _("Processes alive"), f"{len(readings.up)}", note, admin.list_of(Process), kind)


def _capped(count: int) -> str:
    return f"{number(MAX_COUNT)}+" if count > MAX_COUNT else number(count)
