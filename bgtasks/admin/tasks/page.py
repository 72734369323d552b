"""The page of one task, as values for its template."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _

from ...models import BackgroundTask, Process
from ...operations.fire_again import find_obstacle
from ...status import LIVE, Status
from ..shared.base import breakable, find_processes, label_of, short_id
from ..shared.formats import CutText, cut, duration, parse_uuid, pretty_json, write_moment
from ..shared.page import live_context
from . import states
from .arguments import describe_arguments, describe_no_arguments
from .facts import describe_facts, describe_request
from .neighbours import find_same_key, find_strip, function_url
from .progress import describe_progress
from .reasons import translate_reason
from .timeline import MAX_STEPS, Step, read_stays, read_steps
from .traceback import read_traceback

if TYPE_CHECKING:
    from ..shared.base import ReadOnlyAdmin
    from .actions import TaskActions

MAX_TRACEBACK = 100_000  # Characters.
MAX_AGAIN = 10  # Tasks fired again from this one.
MAX_HISTORY = 3000  # Steps read for the boxes: 1000 attempts or more.
MANY_STEPS = 12  # More than so many are folded under the boxes.


def describe(task: BackgroundTask, admin: TaskActions, request: HttpRequest) -> dict[str, Any]:
    now = timezone.now()
    history = read_steps(task.transitions, MAX_HISTORY)
    found = find_processes([task.process, task.origin, *(parse_uuid(step.by) for step in history[-MAX_STEPS:])])
    is_live = task.status in LIVE
    may_view_args = request.user.has_perm("bgtasks.view_task_args")
    return {
        "task": task,
        "name": breakable(task.name),
        "is_live": is_live,
        **(live_context(is_moving=True) if is_live else {}),
        "facts": list(describe_facts(task, found, admin, request)),
        **_describe_history(task, history, found, now),
        "may_cancel": is_live and not task.cancel_requested_at and admin.has_cancel_permission(request),
        "may_fire_again": find_obstacle(task) is None and admin.has_fire_permission(request),
        "fired_again": list(_fired_again(task, admin)) if not is_live else [],
        "progress": describe_progress(task),
        "may_view_args": may_view_args,
        "arguments": describe_arguments(task) if may_view_args else [],
        "no_arguments": describe_no_arguments(task),
        "values": list(_values(task)),
        "error": _error(task, admin),
        "request_facts": list(describe_request(task, admin, request)),
        "same_key": find_same_key(task, admin),
        "function_url": function_url(task.name, admin),
        **find_strip(task._state.db, [task.name], admin, now, task),
    }


def _describe_history(
    task: BackgroundTask, history: Sequence[Step], found: dict[UUID, Process], now: datetime
) -> dict[str, Any]:
    is_live = task.status in LIVE
    steps = history[-MAX_STEPS:]
    stays = read_stays(steps, now if is_live else task.finished_at)
    return {
        "boxes": [states.describe_box(box, task, now) for box in states.draw(history, now if is_live else None)],
        "stays": [{**vars(stay), "length": duration(stay.length)} for stay in stays],
        "steps": [_describe_step(step, found) for step in steps],
        "has_many_steps": len(steps) > MANY_STEPS,
        "hidden_step_count": len(history) - len(steps),
    }


def _describe_step(step: Step, found: dict[UUID, Process]) -> dict[str, Any]:
    by = parse_uuid(step.by)
    return {
        "status": step.status,
        "label": step.label,
        "at": write_moment(step.at, milliseconds=True),
        "since_previous": "" if step.since_previous is None else "+" + duration(step.since_previous),
        "attempt": step.attempt,
        "by": label_of(by, found) if by else step.by,
        "why": translate_reason(step.why),
    }


def _fired_again(task: BackgroundTask, admin: ReadOnlyAdmin) -> Iterator[dict[str, Any]]:
    rows = BackgroundTask.objects.using(task._state.db).fired_again_from(task).order_by("-pk")
    for row in rows.only("status", "created_at")[:MAX_AGAIN]:
        yield {
            "url": admin.page_of(BackgroundTask, row.pk),
            "id": short_id(row.pk),
            "status": row.status,
            "label": row.get_status_display(),
            "at": write_moment(row.created_at),
        }


def _values(task: BackgroundTask) -> Iterator[tuple[str, CutText]]:
    if task.await_place is not None and task.status in LIVE:
        yield _("Waits at"), pretty_json(task.await_place)
    if task.status == Status.SUCCESSFUL:
        yield _("Result"), pretty_json(task.result)
    if task.checkpoint is not None:
        yield _("Checkpoint"), pretty_json(task.checkpoint)


def _error(task: BackgroundTask, admin: ReadOnlyAdmin) -> dict[str, Any] | None:
    if not (task.error_type or task.error_message or task.traceback):
        return None
    return {
        "type": task.error_type or _("Error"),
        "message": cut(task.error_message),
        "fingerprint": task.error_fingerprint,
        "same_url": admin.tasks_url(show="failed", name=task.name, fingerprint=task.error_fingerprint),
        "chain": read_traceback(task.traceback[:MAX_TRACEBACK]),
        "traceback": cut(task.traceback, MAX_TRACEBACK),
    }
