"""Lifespans: the time during which each process was up, and the deaths among them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from ...models import Process
from .swimlanes import Scale


@dataclass(frozen=True)
class Life:
    process: Process
    label: str
    url: str
    x: float
    width: float
    died_x: float | None
    took_along: int  # Tasks that ran in the process when it died.


def draw(processes: Iterable[tuple[Process, str, str]], scale: Scale) -> list[Life]:
    """
    Draw processes, each with its label and its address.

    A dead process ends at its last beat, since it was declared dead later.
    """
    lives = []
    for process, label, url in processes:
        is_dead = process.state == Process.State.DEAD
        end = _end_of(process, scale.now)
        x = scale.x(process.started_at)
        width = max(scale.x(end) - x, 2.0)
        names = process.died_with if isinstance(process.died_with, dict) else {}
        took_along = sum(count for count in names.values() if isinstance(count, int))
        lives.append(Life(process, label, url, x, round(width, 1), x + width if is_dead else None, took_along))
    return lives


def _end_of(process: Process, now: datetime) -> datetime:
    if process.state in Process.UP:
        return now
    last = process.beat_at if process.state == Process.State.DEAD else process.stopped_at
    return last or process.stopped_at or process.started_at
