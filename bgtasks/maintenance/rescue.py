"""The rescue: finds dead processes, and gives their tasks the declared verdicts."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connections, router
from django.utils import timezone

from ..conf import Settings
from ..journal.journal import Journal
from ..journal.statements import bounded_transaction
from ..log import log
from ..models import BackgroundTask, Process
from ..process.registry import Registry
from ..process.state import ProcessState
from ..runtime.backlog import Backlog
from ..status import Status
from ..transitions import Verdict, give_back, give_verdicts
from .death_watch import Beat, DeathWatch

BATCH = 100  # Rows in one transaction.
NAMED = 10  # Names in a log line.


class Look:
    """One reading of the rows: the beats of the processes, and the ended processes whose tasks are live."""

    def __init__(self, using: str, own: UUID | None) -> None:
        """
        Args:
            own: the process that reads, if it has a row. It does not judge itself.
        """
        self.began = time.monotonic()
        owners = BackgroundTask.objects.using(using).find_owners()
        processes = Process.objects.using(using)
        beats: dict[UUID, Beat] = dict(processes.filter(state__in=Process.UP).values_list("id", "beat"))
        unknown = owners - beats.keys() - {own}
        ended = set(processes.filter(pk__in=unknown).exclude(state__in=Process.UP).values_list("pk", flat=True))
        self.ended = time.monotonic()
        self.beats = {process: beat for process, beat in beats.items() if process != own}
        # A process without a row may be about to write it again, so it is observed for some time too.
        self.beats |= dict.fromkeys(unknown - ended)
        self.left_behind: set[UUID] = ended  # The ended processes whose tasks are live.


def declare_dead(using: str, process: UUID, beat: Beat) -> bool:
    """
    Declare a process dead, unless its beat has changed; return whether it is dead.

    That is final: if the process is alive after all, it goes on under another id.

    Args:
        beat: the last beat that was seen. None: the process had no row.
    """
    if beat is None:
        return not Process.objects.using(using).filter(pk=process).exists()
    silent = Process.objects.using(using).filter(pk=process, beat=beat, state__in=Process.UP)
    with bounded_transaction(using):
        return bool(silent.update(state=Process.State.DEAD, stopped_at=timezone.now()))


def rescue(using: str, process: UUID, by: str, only: Collection[UUID] | None = None) -> Iterator[list[Verdict]]:
    """
    Give the tasks of an ended process their verdicts, in batches; yield those of each batch after its commit.

    Args:
        by: the process or person that gives them, for the histories.
        only: the tasks to rescue. None: all.
    """
    while verdicts := _rescue_batch(using, process, by, only):
        yield verdicts


def _rescue_batch(using: str, process: UUID, by: str, only: Collection[UUID] | None) -> list[Verdict]:
    """Give up to BATCH verdicts; record in the row of the process the names of the tasks that ran at its death."""
    with bounded_transaction(using):
        rows = Process.objects.using(using).filter(pk=process)
        if connections[using].features.has_select_for_update:
            rows = rows.select_for_update()
        row = rows.first()
        is_drained = row is not None and row.state == Process.State.STOPPED
        name = str(row) if row is not None else f"process {process}"
        why = f"its {name} stopped before it ended" if is_drained else f"its {name} died"
        verdicts = give_verdicts(using, process, by, why, BATCH, counts=not is_drained, only=only)
        if row is not None and not is_drained:
            ran = Counter(verdict.name for verdict in verdicts if verdict.previous is Status.RUNNING)
            if ran:
                row.died_with = Counter(row.died_with) + ran
                row.save(update_fields=["died_with"])
    return verdicts


class Rescuer:
    """
    Looks every HEARTBEAT for processes that do not beat, and for live tasks of ended processes.

    It looks for such tasks each time, not once per death: the last commit of a process may become visible only after
    its death was noticed.
    """

    def __init__(
        self, settings: Settings, state: ProcessState, registry: Registry, backlog: Backlog, journal: Journal
    ) -> None:
        self._settings = settings
        self._state = state
        self._registry = registry
        self._backlog = backlog
        self._journal = journal
        self._next = 0.0
        self._death_watch = DeathWatch(settings.dead_after, settings.heartbeat)
        # The tasks, with their starts, that the last look has found RUNNING here and unknown to this process.
        self._unknown: set[tuple[UUID, datetime | None]] = set()

    def seconds_until_due(self, now: float) -> float:
        if self._state.is_ending:
            return self._settings.heartbeat
        return max(self._next - now, 0.0)

    def run_once(self, now: float) -> None:
        self._next = now + self._settings.heartbeat
        using = router.db_for_write(BackgroundTask)
        look = Look(using, self._state.id)
        ended = look.left_behind
        for process, beat in self._death_watch.look(look.began, look.ended, look.beats).items():
            if declare_dead(using, process, beat):
                silence = self._death_watch.silence(process, time.monotonic())
                log(logging.ERROR, "Process %s is dead: it has not beaten for %.1f s.", process, silence)
                ended.add(process)
        for process in ended:
            self._rescue(using, process, now)
        self._give_back_unknown(using)

    def _rescue(self, using: str, process: UUID, now: float) -> None:
        """Give one batch its verdicts. The next one follows in the next turn, since the journal has tasks to write."""
        batches = rescue(using, process, str(self._state.id))
        verdicts = next(batches, [])
        if len(verdicts) == BATCH:
            self._next = now
        self._report(process, verdicts)

    def _report(self, process: UUID, verdicts: list[Verdict]) -> None:
        if not verdicts:
            return
        if any(verdict.status is Status.READY for verdict in verdicts):
            self._backlog.expect_rows()
        counts = Counter(verdict.status.value for verdict in verdicts)
        names = Counter(verdict.name for verdict in verdicts if verdict.status is Status.LOST)
        log(
            logging.ERROR if names else logging.WARNING,
            "Process %s has left %s tasks: %s. Lost: %s",
            process,
            len(verdicts),
            ", ".join(f"{status} ×{count}" for status, count in counts.items()),
            ", ".join(f"{name} ×{count}" for name, count in names.most_common(NAMED)) or "none",
        )
        self._journal.after_commit.announce_verdicts(verdicts)

    def _give_back_unknown(self, using: str) -> None:
        """
        Make rows READY again that this process runs according to the table, but does not know.

        The answer to the COMMIT of a claim may be lost: then its rows are claimed, but were never started.

        A row is given back when two looks in succession find it with the same start. At one look the end of an attempt
        may be on its way to the journal; at the next look that attempt is written, since this runs on the journal's
        thread, and the row shows the end or a later start.
        """
        running: Any = BackgroundTask.objects.using(using).running().filter(process=self._state.id)
        if running.count() <= self._registry.count_running():
            self._unknown = set()
            return
        starts = running.values_list("pk", "started_at")
        unknown = {(id_, started_at) for id_, started_at in starts if not self._journal.knows(id_.int)}
        for id_, started_at in unknown & self._unknown:
            self._give_back(using, id_, started_at)
        self._unknown = unknown - self._unknown

    def _give_back(self, using: str, id_: UUID, started_at: datetime | None) -> None:
        reason = "claimed, but its process never heard of it"
        with bounded_transaction(using):
            is_given_back = give_back(using, id_, self._state.id, started_at, reason)
        if is_given_back:
            self._backlog.expect_rows()
            message = "Task %s was claimed in a transaction whose answer was lost; it is ready again."
            log(logging.WARNING, message, id_)
