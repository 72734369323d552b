"""Reads the history of a task from the JSON in its row, which may hold anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from ...models.moments import parse_moment
from ..pictures import WIDTH
from ..shared.formats import printable, status_label

MAX_STEPS = 100
MAX_WORDS = 500  # Characters of one reason.
MIN_WIDTH = 6  # Of the shortest stay, so that it is visible.


@dataclass(frozen=True)
class Step:
    status: str
    at: datetime | None
    since_previous: timedelta | None
    attempt: str
    by: str
    why: str

    @property
    def label(self) -> str:
        return status_label(self.status)


@dataclass(frozen=True)
class Stay:
    """A part of the bar: a stay in one status."""

    status: str
    label: str
    x: int
    width: int
    length: timedelta


def read_steps(history: object, most: int = MAX_STEPS) -> list[Step]:
    """
    Return the newest steps of a stored history, oldest first, without entries that are not steps.

    >>> steps = read_steps([{"status": "READY", "at": "2026-01-02T03:04:05Z"}, 7, {"status": "RUNNING"}])
    >>> [(step.label, step.since_previous) for step in steps]
    [('Ready', None), ('Running', None)]
    """
    entries = [entry for entry in history if isinstance(entry, dict)] if isinstance(history, list) else []
    steps: list[Step] = []
    previous: datetime | None = None
    for entry in entries[-most:]:
        at = parse_moment(entry.get("at"))
        steps.append(
            Step(
                status=_words(entry.get("status"))[:30],
                at=at,
                since_previous=at - previous if at and previous else None,
                attempt=_words(entry.get("attempt"))[:20],
                by=_words(entry.get("by")),
                why=_words(entry.get("why")),
            )
        )
        previous = at or previous
    return steps


def read_stays(steps: Sequence[Step], until: datetime | None) -> list[Stay]:
    """
    Return the parts of the bar. They end at `until` (now for a live task) or at the last step.

    >>> steps = read_steps([{"status": s, "at": f"2026-01-02T03:04:0{n}Z"} for n, s in enumerate(["READY", "RUNNING"])])
    >>> [(stay.label, stay.x, stay.width) for stay in read_stays(steps, steps[-1].at + timedelta(seconds=3))]
    [('Ready', 0, 250), ('Running', 250, 750)]
    """
    lengths = [(step, length) for step, length in _lengths(steps, until) if length > timedelta(0)]
    total = sum((length for _, length in lengths), timedelta(0))
    widths = [max(MIN_WIDTH, round(WIDTH * (length / total))) for _, length in lengths]
    stays, x = [], 0
    for (step, length), width in zip(lengths, widths, strict=True):
        scaled = round(width * WIDTH / sum(widths))
        stays.append(Stay(step.status, step.label, x, scaled, length))
        x += scaled
    return stays


def _lengths(steps: Sequence[Step], until: datetime | None) -> Iterator[tuple[Step, timedelta]]:
    timed = [(step, step.at) for step in steps if step.at]
    for (step, at), (_, next_at) in pairwise(timed):
        yield step, next_at - at
    if timed and until:
        yield timed[-1][0], until - timed[-1][1]


def _words(value: object) -> str:
    if value is None or isinstance(value, bool | dict | list):
        return ""
    return printable(value)[:MAX_WORDS]
