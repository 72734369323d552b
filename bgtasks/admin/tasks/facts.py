"""The facts on the page of a task: its times, its processes, its options, and the request that fired it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING
from uuid import UUID

from django.contrib.admin.utils import quote
from django.contrib.auth import get_user_model
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from ...models import BackgroundTask, Process
from ...status import Status
from ..shared.base import Fact, label_of
from ..shared.fired_by import MAX_LENGTH, read_fired_by
from ..shared.formats import cut, duration, printable, write_moment

if TYPE_CHECKING:
    from ..shared.base import ReadOnlyAdmin

Labels = dict[UUID, Process]


def describe_facts(task: BackgroundTask, found: Labels, admin: ReadOnlyAdmin, request: HttpRequest) -> Iterator[Fact]:
    """
    Yield the facts of a task.

    Args:
        found: the processes that the task names, by id.
    """
    yield from _time_facts(task)
    yield from _place_facts(task, found, admin, request)
    yield from _option_facts(task)
    if task.cancel_requested_at:
        yield Fact(_("Cancel asked for at"), write_moment(task.cancel_requested_at, milliseconds=True))
    if task.fired_again_from:
        url = admin.page_of(BackgroundTask, task.fired_again_from)
        yield Fact(_("Fired again from"), task.fired_again_from, url=url)
    if task.release:
        yield Fact(_("Release"), task.release)


def _time_facts(task: BackgroundTask) -> Iterator[Fact]:
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


def _place_facts(task: BackgroundTask, found: Labels, admin: ReadOnlyAdmin, request: HttpRequest) -> Iterator[Fact]:
    yield _process_fact(_("Process"), task.process, found, admin, request)
    if task.origin and task.origin != task.process:
        yield _process_fact(_("Fired in"), task.origin, found, admin, request)
    if not task.is_task_function:
        yield Fact(_("Kind"), _("Coroutine object"), _("it can be run once only, by the process that has it"))
    yield Fact(_("Queue"), task.queue_name, _priority(task))


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


def _option_facts(task: BackgroundTask) -> Iterator[Fact]:
    if task.rate_key:
        yield Fact(_("Rate key"), cut(task.rate_key, 200).text, _("tasks with the same key share one rate"))
    yield Fact(_("When its process dies"), *_verdict(task))
    if isinstance(task.options, dict) and task.options:
        given = ", ".join(f"{name}={value!r}" for name, value in task.options.items())
        yield Fact(_("Options"), cut(printable(given), 500).text, _("given when it was fired"))
    if task.key:
        yield Fact(_("Key"), task.key, _("at most one live task has it"))


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


def describe_request(task: BackgroundTask, admin: ReadOnlyAdmin, request: HttpRequest) -> Iterator[Fact]:
    """Yield facts of the request that fired the task. All of them are text that a client sent."""
    found = read_fired_by(task.fired_by)
    if found.line:
        yield Fact(_("Request"), cut(found.line, MAX_LENGTH).text)
    if found.user_id:
        user_id = cut(found.user_id, MAX_LENGTH).text
        yield Fact(_("User"), _("user %(id)s") % {"id": user_id}, url=_user_url(user_id, admin, request))
    if found.request_id:
        yield Fact(_("Request id"), cut(found.request_id, MAX_LENGTH).text)


def _user_url(user_id: str, admin: ReadOnlyAdmin, request: HttpRequest) -> str:
    user = get_user_model()._meta
    if not request.user.has_perm(f"{user.app_label}.view_{user.model_name}"):
        return ""
    return admin.page_of(get_user_model(), quote(user_id))
