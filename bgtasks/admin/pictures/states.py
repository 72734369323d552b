"""States: what a task went through, a box for each status it was in, with the real times. A long course is folded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ...status import FINISHED, Status
from ..tasks.timeline import Step

FIRST, LAST = 5, 7  # Boxes that are drawn of a course which is folded in its middle.


@dataclass(frozen=True)
class Box:
    """A stay in one status."""

    step: Step
    length: timedelta | None  # None: no time is known, or it is an end.
    is_open: bool  # Whether the task is there still.
    is_again: bool  # Whether it waits after an attempt.

    @property
    def is_end(self) -> bool:
        return self.step.status in FINISHED


@dataclass(frozen=True)
class Fold:
    """The boxes that are not drawn."""

    count: int
    attempt_count: int
    length: timedelta | None


def draw(steps: Sequence[Step], until: datetime | None) -> list[Box | Fold]:
    """
    Return the boxes of a course, and where it is long one `Fold` in their middle.

    Args:
        until: now, of a live task, whose last box is open; None for one that has finished.

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
