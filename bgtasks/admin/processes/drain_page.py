"""The page of one drain, as values for its template."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from django.http import HttpRequest
from django.utils.translation import gettext as _

from ...models import Drain, Process
from ..pictures import drains
from ..pictures.drains import DrainPicture
from ..shared.base import Fact
from ..shared.formats import duration, printable, split_name, write_moment
from ..tasks.filters import NameFilter

if TYPE_CHECKING:
    from ..shared.base import ReadOnlyAdmin

MAX_NAMES = 100


def describe(drain: Drain, process: str, admin: ReadOnlyAdmin, request: HttpRequest) -> dict[str, Any]:
    picture = draw_drain(drain)
    return {
        "facts": list(_facts(drain, process, admin)),
        "picture": picture,
        "picture_text": describe_drain(drain),
        "picture_seconds": duration(picture.seconds),
        "picture_top": drain.running_at_start,
        "deadline": duration(drain.cut_short_after) if drain.cut_short_after is not None else "",
        "names": list(_names(drain, admin, request)),
    }


def draw_drain(drain: Drain) -> DrainPicture:
    return drains.draw(drain.course, drain.running_at_start, drain.seconds, drain.cut_short_after)


def describe_line(drain: Drain, words: str, admin: ReadOnlyAdmin) -> dict[str, Any]:
    """Return a drain for `drains.html`, with a text on its outcome."""
    return {
        "at": write_moment(drain.started_at),
        "url": admin.page_of(Drain, drain.pk),
        "words": words,
        "picture": draw_drain(drain),
    }


def describe_drain(drain: Drain) -> str:
    """Return the text beside the picture."""
    counts = {
        "running": drain.running_at_start,
        "finished": drain.finished_count,
        "cut": drain.cancelled_count,
        "left": drain.left_count,
        "time": duration(drain.seconds),
    }
    if drain.cut_short_after is None:
        text = _("%(running)s ran at the start, %(finished)s finished, none was cut short. It took %(time)s.")
        return text % counts
    text = _(
        "%(running)s ran at the start, %(finished)s finished in time. After %(deadline)s the rest was cut short: "
        "%(cut)s ended then, %(left)s did not. It took %(time)s."
    )
    return text % {**counts, "deadline": duration(drain.cut_short_after)}


def _facts(drain: Drain, process: str, admin: ReadOnlyAdmin) -> Iterator[Fact]:
    yield Fact(_("Process"), process, url=admin.page_of(Process, drain.process))
    yield Fact(_("Asked by"), drain.asked_by)
    yield Fact(_("Started at"), write_moment(drain.started_at, milliseconds=True))
    yield Fact(_("Took"), duration(drain.seconds))
    yield Fact(_("Running at start"), drain.running_at_start)
    yield Fact(_("Finished in time"), drain.finished_count)
    yield Fact(_("Cancelled"), drain.cancelled_count, _("cut short at the deadline"))
    yield Fact(_("Left"), drain.left_count, _("did not end even when cancelled"))


def _names(drain: Drain, admin: ReadOnlyAdmin, request: HttpRequest) -> Iterator[dict[str, str]]:
    """Yield the functions with unfinished tasks, each with the address of its tasks."""
    names = drain.names if isinstance(drain.names, dict) else {}
    for name, count in list(names.items())[:MAX_NAMES]:
        module, function = split_name(printable(name))
        yield {
            "module": module,
            "function": function,
            "count": printable(count),
            "url": tasks_url(admin, request, printable(name)),
        }


def tasks_url(admin: ReadOnlyAdmin, request: HttpRequest, name: str) -> str:
    """Return the address of the tasks of a function, or "" for a user without the permission to view them."""
    may_view = request.user.has_perm("bgtasks.view_backgroundtask")
    return admin.tasks_url(**{NameFilter.parameter_name: name}) if may_view else ""
