"""The request to processes, through their rows, to start no more tasks: sends it, undoes it, reads the answers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.utils import timezone

from ..conf import Settings
from ..models import BackgroundTask, Process

MAX_NAMED = 100  # Tasks in a report.


@dataclass(frozen=True)
class Answer:
    """A process, and whether it has done as requested."""

    id: UUID
    host: str
    pid: int
    server: str
    state: str
    has_answered: bool
    is_silent: bool  # It does not beat, so its answer is not awaited.

    def __str__(self) -> str:
        return f"{self.server or 'process'} {self.host}:{self.pid} ({self.id})"


@dataclass(frozen=True)
class DrainState:
    """How far a drain request is fulfilled."""

    answers: Sequence[Answer]
    running_count: int

    @property
    def unanswered(self) -> list[Answer]:
        return [answer for answer in self.answers if not (answer.has_answered or answer.is_silent)]

    @property
    def is_done(self) -> bool:
        return not self.unanswered and not self.running_count


@dataclass
class DrainRequest:
    """
    A request to processes to start no more tasks, or to start tasks again, with their answers.

    A process that has acknowledged the request starts nothing: the number of its running tasks can only fall. Nothing
    is cancelled. Processes that boot later do not get the request.
    """

    alias: str
    ids: Sequence[UUID]
    settings: Settings
    is_undo: bool = False
    _beats: dict[UUID, tuple[int, float]] = field(default_factory=dict)

    def send(self) -> None:
        rows = Process.objects.using(self.alias).filter(pk__in=self.ids)
        if self.is_undo:
            rows.update(drain_requested_at=None)
        else:
            rows.filter(drain_requested_at=None).update(drain_requested_at=timezone.now(), drain_acknowledged_at=None)

    def look(self) -> DrainState:
        # The processes first: the tasks that a process started before its answer have their rows by then.
        rows = Process.objects.using(self.alias).filter(pk__in=self.ids).order_by("id")
        answers = [self._read(row) for row in rows]
        return DrainState(answers, 0 if self.is_undo else self._running().count())

    def find_running(self) -> list[dict[str, Any]]:
        """Return up to MAX_NAMED running tasks, oldest first, each with id, name, process and started_at."""
        return list(self._running().order_by("id").values("id", "name", "process", "started_at")[:MAX_NAMED])

    def count_ready(self) -> int:
        """Return the number of tasks that wait in the table, for any process."""
        return int(BackgroundTask.objects.using(self.alias).waiting().count())

    def _running(self) -> Any:
        return BackgroundTask.objects.using(self.alias).running().filter(process__in=self.ids)

    def _read(self, row: Process) -> Answer:
        has_answered = row.state not in Process.UP or (
            row.drain_acknowledged_at is None and row.state == Process.State.ALIVE
            if self.is_undo
            else row.drain_acknowledged_at is not None
        )
        return Answer(row.pk, row.host, row.pid, row.server, row.state, has_answered, self._is_silent(row))

    def _is_silent(self, row: Process) -> bool:
        """
        Return whether no beat of the process has been observed for long.

        An old `beat_at` alone is no proof, since the clocks of two machines may differ.
        """
        now = time.monotonic()
        beat, seen_at = self._beats.get(row.pk, (None, now))
        if beat != row.beat:
            self._beats[row.pk] = (row.beat, now)
            return False
        is_old = row.beat_at is None or timezone.now() - row.beat_at > timedelta(seconds=self.settings.dead_after)
        patience = 2 * self.settings.heartbeat if is_old else self.settings.dead_after
        return now - seen_at > patience


def find_processes(alias: str) -> Any:
    """Return the processes whose rows say that they are up."""
    return Process.objects.using(alias).filter(state__in=Process.UP)
