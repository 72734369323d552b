"""The history of a task as boxes, one for each stay in a status, with its real time. A long history is folded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from ...models import BackgroundTask
from ...status import FINISHED, Status
from ..shared.formats import duration
from .reasons import translate_reason
from .timeline import Step

MAX_WHY = 45  # Characters of a reason between two boxes.
RAISED = "raised "  # The beginning of the reason for a failed attempt.
FIRST, LAST = 5, 7  # Boxes on both sides of a fold.


@dataclass(frozen=True)
class Box:
    """A stay in one status."""

    step: Step
    length: timedelta | None  # None: its times are not known, or it is the end.
    is_open: bool  # Whether the task is still in this status.
    is_again: bool  # Whether the task waits after an attempt.

    @property
    def is_end(self) -> bool:
        return self.step.status in FINISHED


@dataclass(frozen=True)
class Fold:
    """Stands for the boxes that are not drawn."""

    count: int
    attempt_count: int
    length: timedelta | None


def draw(steps: Sequence[Step], until: datetime | None) -> list[Box | Fold]:
    """
    Return the boxes of a history, with a `Fold` in the middle of a long one.

    Args:
        until: now for a live task, whose last box is open; None for a finished one.

    >>> from bgtasks.admin.tasks.timeline import read_steps
    >>> moments = [("READY", 0), ("RUNNING", 1), ("READY", 3), ("RUNNING", 5), ("SUCCESSFUL", 6)]
    >>> steps = read_steps([{"status": status, "at": f"2026-01-02T03:04:0{at}Z"} for status, at in moments])
    >>> [(box.step.label, box.length and box.length.seconds, box.is_again) for box in draw(steps, None)]
    [('Ready', 1, False), ('Running', 2, False), ('Ready', 2, True), ('Running', 1, False), ('Successful', None, False)]
    """
    boxes = list(_boxes(steps, until))
    if len(boxes) <= FIRST + LAST + 1:
        return list(boxes)
    return [*boxes[:FIRST], _fold(boxes[FIRST:-LAST]), *boxes[-LAST:]]


def _boxes(steps: Sequence[Step], until: datetime | None) -> Iterator[Box]:
    has_run = False
    for number, step in enumerate(steps):
        is_last = number == len(steps) - 1
        end = until if is_last else steps[number + 1].at
        yield Box(
            step=step,
            length=end - step.at if end and step.at and step.status not in FINISHED else None,
            is_open=is_last and until is not None,
            is_again=has_run and step.status == Status.READY,
        )
        has_run = has_run or step.status == Status.RUNNING


def _fold(boxes: Sequence[Box]) -> Fold:
    lengths = [box.length for box in boxes if box.length is not None]
    return Fold(
        count=len(boxes),
        attempt_count=sum(box.step.status == Status.RUNNING for box in boxes),
        length=sum(lengths, timedelta(0)) if lengths else None,
    )


def describe_box(box: Box | Fold, task: BackgroundTask, now: datetime) -> dict[str, Any]:
    """Return a box for the template, with its status, its duration and the reason for the step to it."""
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
    Return the part of a reason that fits between two boxes; the class of an exception.

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
