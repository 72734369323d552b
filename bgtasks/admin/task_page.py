"""What the page of one task shows, as values for its template."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from ..definition import declared
from ..fire_again import find_obstacle
from ..models import BackgroundTask, Process
from ..parameters import positional_names
from ..sensitive import HIDDEN, is_sealed
from ..status import LIVE, Status
from .base import Fact, breakable, find_processes, label_of, short_id
from .formats import Shown, cut, duration, pretty_json, printable, write_moment
from .page import live_context
from .timeline import Step, read_stays, read_steps
from .traceback_view import read_traceback

if TYPE_CHECKING:
    from .base import ReadOnlyAdmin
    from .task_actions import TaskActions

MAX_ARGUMENTS = 50  # With a line each; more are shown as one text.
MAX_TRACEBACK = 100_000  # Characters.
MAX_AGAIN = 10  # Tasks that were fired again from this one.

Labels = dict[UUID, Process]


def describe(task: BackgroundTask, admin: TaskActions, request: HttpRequest) -> dict[str, Any]:
    steps = read_steps(task.transitions)
    found = find_processes([task.process, task.origin, *(_uuid(step.by) for step in steps)])
    is_live = task.status in LIVE
    return {
        "task": task,
        "name": breakable(task.name),
        "is_live": is_live,
        **(live_context(is_moving=True) if is_live else {}),
        "facts": list(_facts(task, found, admin, request)),
        "steps": [_shown_step(step, found) for step in steps],
        "stays": [
            {**vars(stay), "length": duration(stay.length)}
            for stay in read_stays(steps, timezone.now() if is_live else task.finished_at)
        ],
        "may_cancel": is_live and not task.cancel_requested_at and admin.has_cancel_permission(request),
        "may_fire_again": find_obstacle(task) is None and admin.has_fire_permission(request),
        "fired_again": list(_fired_again(task, admin)) if not is_live else [],
        "arguments": _arguments(task),
        "no_arguments": _no_arguments(task),
        "values": list(_values(task)),
        "error": _error(task),
    }


def _facts(task: BackgroundTask, found: Labels, admin: ReadOnlyAdmin, request: HttpRequest) -> Iterator[Fact]:
    now = timezone.now()
    yield Fact(_("Fired at"), write_moment(task.created_at, milliseconds=True), _fired_by(task))
    if task.status == Status.READY:
        is_later = task.run_after is not None and task.run_after > now
        yield Fact(_("Waits"), duration(now - task.created_at), "" if is_later else _("for a free slot"))
    else:
        yield Fact(_("Waited"), duration(task.waited))
    yield Fact(_("Duration"), duration(task.duration), _("so far") if task.status == Status.RUNNING else "")
    if task.run_after:
        yield Fact(_("Not before"), write_moment(task.run_after, milliseconds=True))
    yield Fact(_("Attempt"), _("%(attempt)s of %(most)s") % {"attempt": task.attempt, "most": task.max_attempts})
    yield _process_fact(_("Process"), task.process, found, admin, request)
    if task.origin and task.origin != task.process:
        yield _process_fact(_("Fired in"), task.origin, found, admin, request)
    if not task.is_task_function:
        yield Fact(_("Kind"), _("Coroutine object"), _("it can be run once only, by the process that has it"))
    yield Fact(_("Queue"), task.queue_name, _priority(task))
    if task.rate_key:
        yield Fact(_("Rate key"), cut(task.rate_key, 200).text, _("what its rate is counted by"))
    yield Fact(_("When its process dies"), *_verdict(task))
    if isinstance(task.options, dict) and task.options:
        given = ", ".join(f"{name}={value!r}" for name, value in task.options.items())
        yield Fact(_("Options"), cut(printable(given), 500).text, _("given when it was fired"))
    if task.key:
        yield Fact(_("Key"), task.key, _("at most one live task has it"))
    if task.cancel_requested_at:
        yield Fact(_("Cancel asked for at"), write_moment(task.cancel_requested_at, milliseconds=True))
    if task.fired_again_from:
        url = admin.page_of(BackgroundTask, task.fired_again_from)
        yield Fact(_("Fired again from"), task.fired_again_from, url=url)
    if task.release:
        yield Fact(_("Release"), task.release)


def _process_fact(
    label: str, process_id: UUID | None, found: Labels, admin: ReadOnlyAdmin, request: HttpRequest
) -> Fact:
    if process_id is None:
        return Fact(label, "–", _("none yet"))
    process = found.get(process_id)
    if process is None:
        return Fact(label, process_id, _("not known any more"))
    may_view = request.user.has_perm("bgtasks.view_process")
    url = admin.page_of(Process, process_id) if may_view else ""
    return Fact(label, label_of(process_id, found), process.get_state_display(), url)


def _fired_by(task: BackgroundTask) -> str:
    request = task.fired_by if isinstance(task.fired_by, dict) else {}
    line = " ".join(printable(request[key]) for key in ("method", "path") if request.get(key))
    user = _("user %(id)s") % {"id": printable(request["user_id"])} if request.get("user_id") is not None else ""
    request_id = _("request %(id)s") % {"id": printable(request["request_id"])} if request.get("request_id") else ""
    return cut(" · ".join(filter(None, [line, user, request_id])), 500).text


def _priority(task: BackgroundTask) -> str:
    return _("priority %(number)s") % {"number": task.priority} if task.priority else ""


def _verdict(task: BackgroundTask) -> tuple[str, str]:
    if task.on_lost == "rerun":
        note = ngettext(
            "any process runs it again, up to %(count)s attempt: at least once",
            "any process runs it again, up to %(count)s attempts: at least once",
            task.max_attempts,
        )
        return _("Run again"), note % {"count": task.max_attempts}
    return _("Fail"), _("it ends as lost and is not run again: at most once")


def _shown_step(step: Step, found: Labels) -> dict[str, Any]:
    by = _uuid(step.by)
    return {
        "status": step.status,
        "label": step.label,
        "at": write_moment(step.at, milliseconds=True),
        "since_previous": "" if step.since_previous is None else "+" + duration(step.since_previous),
        "attempt": step.attempt,
        "by": label_of(by, found) if by else step.by,
        "why": step.why,
    }


def _arguments(task: BackgroundTask) -> list[tuple[str, Shown]]:
    args, kwargs = task.args, task.kwargs
    if args is None and kwargs is None:
        return []
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        return [("args", pretty_json(args)), ("kwargs", pretty_json(kwargs))]
    args = [HIDDEN if is_sealed(value) else value for value in args]
    kwargs = {key: HIDDEN if is_sealed(value) else value for key, value in kwargs.items()}
    if len(args) + len(kwargs) > MAX_ARGUMENTS:
        return [("args", pretty_json(args)), ("kwargs", pretty_json(kwargs))]
    names = _parameters(task.name)
    labels = [names[place] if len(args) <= len(names) else str(place) for place in range(len(args))]
    labels += [printable(key) for key in kwargs]
    return [(label, pretty_json(value)) for label, value in zip(labels, [*args, *kwargs.values()], strict=True)]


def _no_arguments(task: BackgroundTask) -> str:
    """Return what to say of a task without arguments to show."""
    if task.args is None:
        return _("They are not stored, since the database refused them: see the timeline.")
    return _("None") if task.is_task_function else _("None recorded")


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


def _parameters(name: str) -> list[str]:
    """Return the names of the positional parameters, where this process knows the function."""
    function = declared.get(name)
    return positional_names(function.signature) if function is not None else []


def _values(task: BackgroundTask) -> Iterator[tuple[str, Shown]]:
    if task.progress is not None:
        yield _("Progress"), pretty_json(task.progress)
    if task.await_place is not None and task.status in LIVE:
        yield _("Waits at"), pretty_json(task.await_place)
    if task.status == Status.SUCCESSFUL:
        yield _("Result"), pretty_json(task.result)
    if task.checkpoint is not None:
        yield _("Checkpoint"), pretty_json(task.checkpoint)


def _error(task: BackgroundTask) -> dict[str, Any] | None:
    if not (task.error_type or task.error_message or task.traceback):
        return None
    return {
        "type": task.error_type or _("Error"),
        "message": cut(task.error_message),
        "fingerprint": task.error_fingerprint,
        "chain": read_traceback(task.traceback),
        "traceback": cut(task.traceback, MAX_TRACEBACK),
    }


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
