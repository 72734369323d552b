"""The outlook of a stuck task without intervention: its verdict, and the time of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from ...conf import Settings
from ...definition import declared
from ...models import Process
from ...operations.rescue_by_hand import background_watch, longest_watch
from ...reports.stuck import FUNCTION_UNKNOWN, Standing, StuckTask, find_standing
from ...status import Status
from ...transitions import judge
from ..shared.formats import duration, write_moment


@dataclass(frozen=True)
class Outlook:
    """The fate of a stuck task without intervention."""

    label: str
    note: str
    when: str = ""
    status: str = ""  # Of the verdict, for the badge.


@dataclass
class Around:
    """The circumstances on which outlooks depend."""

    now: datetime
    settings: Settings
    processes: Mapping[UUID, Process]
    up_count: int = field(init=False)
    taking_count: int = field(init=False)  # Processes among them that start tasks.

    def __post_init__(self) -> None:
        up = [each for each in self.processes.values() if self.stands(each) is Standing.UP]
        self.up_count = len(up)
        self.taking_count = sum(each.state == Process.State.ALIVE and each.drain_requested_at is None for each in up)

    def stands(self, process: Process | None) -> Standing:
        return find_standing(process, self.settings, self.now)


def foresee(task: StuckTask, row: Mapping[str, Any], process: Process | None, around: Around) -> Outlook:
    if task.kind == "process":
        return _foresee_verdict(task, row, process, around)
    if task.kind == "waiting":
        return _foresee_start(task, around)
    if row["cancel_requested_at"] is None:
        return Outlook(_("Nothing by itself"), _("Its process lives. Cancel it, if it is to end."))
    text = _("It was asked to stop at %(time)s.") % {"time": write_moment(row["cancel_requested_at"])}
    return Outlook(_("Nothing by itself"), text, _("It ends when it obeys, or with its process."))


def _foresee_verdict(task: StuckTask, row: Mapping[str, Any], process: Process | None, around: Around) -> Outlook:
    is_drained = process is not None and process.state == Process.State.STOPPED
    verdict = judge(row, Status(task.status), counts=not is_drained)
    when = _when(task, process, around)
    if verdict.status is Status.CANCELLED:
        return Outlook(str(Status.CANCELLED.label), _("Its cancellation was requested."), when, Status.CANCELLED)
    if verdict.status is Status.READY:
        counts = {"number": verdict.attempt + 1, "most": row["max_attempts"]}
        return Outlook(_("Runs again"), _("attempt %(number)s of %(most)s") % counts, when, Status.READY)
    has_no_attempts = row["on_lost"] == "rerun" and task.status == Status.RUNNING
    note = _("no attempts left") if has_no_attempts else _("it is not declared to run again")
    return Outlook(str(Status.LOST.label), note, when, Status.LOST)


def _when(task: StuckTask, process: Process | None, around: Around) -> str:
    settings = around.settings
    if background_watch.is_requested(task.process, task.id):
        return _("It was asked for: its process is being watched, for up to %(time)s.") % {
            "time": duration(longest_watch(settings))
        }
    if around.stands(process) is Standing.OVER:
        if around.up_count:
            return _("At the next check of a living process, within %(time)s.") % {"time": duration(settings.heartbeat)}
        return _("No process is up to give it: apply it now, or start a process.")
    if around.up_count:
        text = _("Once a living process has seen no beat of it for %(time)s: it is declared dead then.")
        return text % {"time": duration(settings.dead_after)}
    text = _("No process is up to see whether it died. Applying it now watches it for %(time)s first.")
    return text % {"time": duration(longest_watch(settings))}


def _foresee_start(task: StuckTask, around: Around) -> Outlook:
    label = _("Starts when there is room")
    if task.process is not None:
        return Outlook(label, _("It is a coroutine object: its own process starts it once a slot is free."))
    if not around.taking_count:
        return Outlook(_("Keeps waiting"), _("No process is up that takes tasks."))
    if task.reason.template == FUNCTION_UNKNOWN:
        return Outlook(_("Keeps waiting"), _("Start a process whose code has its function, or cancel it."))
    text = ngettext(
        "The %(count)s process that is up starts it once it has a free slot, if it knows its function.",
        "Any of the %(count)s processes that are up starts it once it has a free slot, if it knows its function.",
        around.taking_count,
    )
    unknown = "" if task.name in declared else _("The process that shows this page does not know its function.")
    return Outlook(label, text % {"count": around.taking_count}, unknown)
