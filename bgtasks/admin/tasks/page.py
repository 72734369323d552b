"""What the page of one task shows, as values for its template."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.contrib.admin.utils import quote
from django.contrib.auth import get_user_model
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from ...definition import declared
from ...definition.parameters import positional_names
from ...definition.sensitive import HIDDEN, is_sealed
from ...models import BackgroundTask, Process
from ...operations.fire_again import find_obstacle
from ...status import LIVE, Status
from ..pictures import states
from ..pictures.states import Box, Fold
from ..shared.base import Fact, breakable, find_processes, label_of, short_id
from ..shared.formats import Shown, cut, duration, pretty_json, printable, write_moment
from ..shared.page import live_context
from .neighbours import find_same_key, find_strip, function_url
from .progress import describe_progress
from .reasons import translate_reason
from .timeline import MAX_STEPS, Step, read_stays, read_steps
from .traceback import read_traceback

if TYPE_CHECKING:
    from ..shared.base import ReadOnlyAdmin
    from .actions import TaskActions

MAX_ARGUMENTS = 50  # With a line each; more are shown as one text.
MAX_TRACEBACK = 100_000  # Characters.
MAX_REQUEST = 500  # Characters of what a request says of itself.
MAX_AGAIN = 10  # Tasks that were fired again from this one.
MAX_HISTORY = 3000  # Steps that are looked at for the boxes: 1000 attempts, and more.
MAX_WHY = 45  # Characters of a reason between two boxes.
RAISED = "raised "  # How the runtime begins to say why an attempt failed.
MANY_STEPS = 12  # More are folded under the boxes.

Labels = dict[UUID, Process]


def describe(task: BackgroundTask, admin: TaskActions, request: HttpRequest) -> dict[str, Any]:
    now = timezone.now()
    history = read_steps(task.transitions, MAX_HISTORY)
    steps = history[-MAX_STEPS:]
    found = find_processes([task.process, task.origin, *(_uuid(step.by) for step in steps)])
    is_live = task.status in LIVE
    may_view_args = request.user.has_perm("bgtasks.view_task_args")
    return {
        "task": task,
        "name": breakable(task.name),
        "is_live": is_live,
        **(live_context(is_moving=True) if is_live else {}),
        "facts": list(_facts(task, found, admin, request)),
        "boxes": [_shown_box(box, task, now) for box in states.draw(history, now if is_live else None)],
        "steps": [_shown_step(step, found) for step in steps],
        "has_many_steps": len(steps) > MANY_STEPS,
        "hidden_step_count": len(history) - len(steps),
        "stays": [
            {**vars(stay), "length": duration(stay.length)}
            for stay in read_stays(steps, now if is_live else task.finished_at)
        ],
        "may_cancel": is_live and not task.cancel_requested_at and admin.has_cancel_permission(request),
        "may_fire_again": find_obstacle(task) is None and admin.has_fire_permission(request),
        "fired_again": list(_fired_again(task, admin)) if not is_live else [],
        "progress": describe_progress(task),
        "may_view_args": may_view_args,
        "arguments": _arguments(task) if may_view_args else [],
        "no_arguments": _no_arguments(task),
        "values": list(_values(task)),
        "error": _error(task, admin),
        "request_facts": list(_request_facts(task, admin, request)),
        "same_key": find_same_key(task, admin),
        "function_url": function_url(task.name, admin),
        **find_strip(task._state.db, [task.name], admin, now, task),
    }


def _facts(task: BackgroundTask, found: Labels, admin: ReadOnlyAdmin, request: HttpRequest) -> Iterator[Fact]:
    now = timezone.now()
    yield Fact(_("Fired at"), write_moment(task.created_at, milliseconds=True))
    if task.status == Status.READY:
        is_later = task.run_after is not None and task.run_after > now
        yield Fact(_("Waits"), duration(now - task.created_at), "" if is_later else _("for a free slot"))
    else:
        yield Fact(_("Waited"), duration(task.waited), _("with its earlier attempts") if task.attempt > 1 else "")
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


def _request_facts(task: BackgroundTask, admin: ReadOnlyAdmin, request: HttpRequest) -> Iterator[Fact]:
    """Yield what is known of the request that fired it, none of which is more than a text of whoever sent it."""
    known = task.fired_by if isinstance(task.fired_by, dict) else {}
    line = " ".join(printable(known[key]) for key in ("method", "path") if known.get(key))
    if line:
        yield Fact(_("Request"), cut(line, MAX_REQUEST).text)
    if known.get("user_id") is not None:
        user_id = cut(printable(known["user_id"]), MAX_REQUEST).text
        yield Fact(_("User"), _("user %(id)s") % {"id": user_id}, url=_user_url(user_id, admin, request))
    if known.get("request_id"):
        yield Fact(_("Request id"), cut(printable(known["request_id"]), MAX_REQUEST).text)


def _user_url(user_id: str, admin: ReadOnlyAdmin, request: HttpRequest) -> str:
    user = get_user_model()._meta
    if not request.user.has_perm(f"{user.app_label}.view_{user.model_name}"):
        return ""
    return admin.page_of(get_user_model(), quote(user_id))


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


def _shown_box(box: Box | Fold, task: BackgroundTask, now: datetime) -> dict[str, Any]:
    """Return a box with its words: what the task did there, for how long, and why it came there."""
    if isinstance(box, Fold):
        attempts = ngettext("%(count)s attempt", "%(count)s attempts", box.attempt_count) % {"count": box.attempt_count}
        steps = ngettext("%(count)s step more", "%(count)s steps more", box.count) % {"count": box.count}
        return {"is_fold": True, "label": steps, "words": f"{attempts}, {duration(box.length)}"}
    step = box.step
    return {
        "status": step.status,
        "label": step.label,
        "attempt": step.attempt if step.status != Status.READY and step.attempt != "0" else "",
        "words": _words_of(box, task, now),
        "is_open": box.is_open,
        "is_end": box.is_end,
        "why": translate_reason(shorten(step.why)),
        "whole_why": translate_reason(step.why),
    }


def shorten(why: str) -> str:
    """
    Return so much of a reason as has room between two boxes; of an exception its class.

    >>> shorten("raised shop.errors.Declined: order 7; again in 2 s, attempt 2 of 3"), shorten("a slot became free")
    ('raised Declined', 'a slot became free')
    """
    first = why.partition(";")[0]
    if first.startswith(RAISED):
        kind = first.removeprefix(RAISED).partition(":")[0]
        first = RAISED + kind.rpartition(".")[2]
    return first if len(first) <= MAX_WHY else f"{first[:MAX_WHY]}…"


def _words_of(box: Box, task: BackgroundTask, now: datetime) -> str:
    if box.is_end:
        total = box.step.at - task.created_at if box.step.at else None
        return _("after %(time)s in all") % {"time": duration(total)}
    texts: dict[tuple[str, bool], str] = {
        (Status.READY, False): _("waited %(time)s"),
        (Status.READY, True): _("waits, %(time)s so far"),
        (Status.RUNNING, False): _("ran %(time)s"),
        (Status.RUNNING, True): _("runs, %(time)s so far"),
    }
    words = texts.get((box.step.status, box.is_open), "%(time)s") % {"time": duration(box.length)}
    if box.is_again and not box.is_open:
        return _("again after %(time)s") % {"time": duration(box.length)}
    if box.is_open and task.status == Status.READY and task.run_after and task.run_after > now:
        return _("%(words)s, due in %(time)s") % {"words": words, "time": duration(task.run_after - now)}
    return words


def _shown_step(step: Step, found: Labels) -> dict[str, Any]:
    by = _uuid(step.by)
    return {
        "status": step.status,
        "label": step.label,
        "at": write_moment(step.at, milliseconds=True),
        "since_previous": "" if step.since_previous is None else "+" + duration(step.since_previous),
        "attempt": step.attempt,
        "by": label_of(by, found) if by else step.by,
        "why": translate_reason(step.why),
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


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
