"""Finds stuck tasks: their process stopped beating, or they run for too long, or they wait for too long."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any
from uuid import UUID

from django.utils.translation import gettext, gettext_noop

from ..conf import Settings
from ..models import BackgroundTask, Process
from ..models.control import find_paused
from ..models.moments import parse_moment, read_place
from .processes import blocked_for, process_name, seconds_since

MAX_LISTED = 1000  # Tasks of each status.

_FIELDS = (
    "id", "name", "status", "process", "created_at", "started_at", "run_after", "stuck_after", "await_place",
    "transitions",
)  # fmt: skip


class Standing(Enum):
    """The condition of a process, judged by its row and the clock of this machine."""

    UP = "it beats"
    SILENT = "it has not beaten for DEAD_AFTER, which is no proof that it died: clocks differ"
    UNKNOWN = "its row is missing"
    OVER = "it has stopped, or was declared dead"


def find_standing(process: Process | None, settings: Settings, now: datetime) -> Standing:
    if process is None:
        return Standing.UNKNOWN
    if process.state not in Process.UP:
        return Standing.OVER
    return Standing.SILENT if _silence(process, now) > settings.dead_after else Standing.UP


def find_known_functions(alias: str, settings: Settings, now: datetime) -> frozenset[str] | None:
    """
    Return the names of the functions that some process which is up knows. One query.

    Returns:
        None if that is unknown, since no process is up, or one has not written its names.
    """
    rows = Process.objects.using(alias).filter(state__in=Process.UP)
    rows = rows.only("state", "started_at", "beat_at", "functions")
    up = [process for process in rows if find_standing(process, settings, now) is Standing.UP]
    if not up or any(not isinstance(process.functions, list) for process in up):
        return None
    return frozenset(name for process in up for name in process.functions or ())


class Reason(str):
    """A reason in English that can be translated."""

    template: str
    values: dict[str, str]

    def __new__(cls, template: str, **values: str) -> Reason:
        made = super().__new__(cls, template % values if values else template)
        made.template, made.values = template, values
        return made

    def localize(self) -> str:
        """
        Return the reason in the active language.

        >>> Reason("it runs for longer than %(seconds)s s", seconds="5").localize()
        'it runs for longer than 5 s'
        """
        return gettext(self.template) % self.values


NOT_KNOWN = gettext_noop("its process is not known")
ENDED = gettext_noop("its process has ended (%(state)s)")
SILENT = gettext_noop("its process has not beaten for %(seconds)s s")
IGNORES = gettext_noop("it ignores its cancellation for %(seconds)s s")
RUNS = gettext_noop("it runs for longer than %(seconds)s s")
WAITS = gettext_noop("it waits for longer than %(seconds)s s")
FUNCTION_UNKNOWN = gettext_noop("it waits for longer than %(seconds)s s, and no process that is up knows its function")


@dataclass(frozen=True)
class StuckTask:
    """A live task that breaks one of the three rules."""

    id: UUID
    name: str
    status: str
    kind: str  # The rule: "process", "running" or "waiting".
    reason: Reason
    age: float  # Seconds for which it runs, or waits.
    process: UUID | None
    process_name: str
    await_place: dict[str, Any] | None  # {file, line, function, since}: in a living process only.
    loop_blocked: float | None  # Seconds for which its event loop has not answered.


@dataclass(frozen=True)
class Finder:
    """
    Finds the tasks that are stuck at the moment `now`.

    Args:
        older_than: seconds, in place of `stuck_after` and the settings STUCK_AFTER and STUCK_WAITING_AFTER.
    """

    alias: str
    settings: Settings
    now: datetime
    older_than: float | None = None

    def find(self) -> list[StuckTask]:
        """Return up to MAX_LISTED tasks of each status, oldest first."""
        tasks = BackgroundTask.objects.using(self.alias).order_by("id")
        rows = [*tasks.running().values(*_FIELDS), *self._old_waiting(tasks)]
        owners = {row["process"] for row in rows if row["process"] is not None}
        of_owners = Process.objects.using(self.alias).filter(pk__in=owners).defer("functions")
        processes = {process.pk: process for process in of_owners}
        known = None
        if any(row["process"] is None for row in rows):
            known = find_known_functions(self.alias, self.settings, self.now)
        found: dict[str, list[StuckTask]] = {}
        for row in rows:
            group = found.setdefault(row["status"], [])
            if len(group) < MAX_LISTED:
                stuck = self._judge(row, processes.get(row["process"]), known)
                group += [stuck] if stuck is not None else []
        return [task for group in found.values() for task in group]

    def _old_waiting(self, tasks: Any) -> Iterator[dict[str, Any]]:
        """Yield the waiting tasks that were fired long ago, and coroutine objects, whose process may have ended."""
        born = self.now - timedelta(seconds=self._longest_wait)
        waiting = tasks.waiting()
        functions, queues = find_paused(self.alias)
        if functions or queues:  # These wait on purpose.
            waiting = waiting.exclude(name__in=functions).exclude(queue_name__in=queues)
        yield from waiting.filter(created_at__lt=born).exclude(run_after__gt=born).values(*_FIELDS)[:MAX_LISTED]
        yield from waiting.filter(created_at__gte=born, process__isnull=False).values(*_FIELDS)[:MAX_LISTED]

    @property
    def _longest_wait(self) -> float:
        return self.settings.stuck_waiting_after if self.older_than is None else self.older_than

    def _judge(self, row: dict[str, Any], process: Process | None, known: Collection[str] | None) -> StuckTask | None:
        is_running = row["status"] == "RUNNING"
        since = row["started_at"] if is_running else self._waits_since(row)
        age = seconds_since(since, self.now) if since is not None else 0.0
        if row["process"] is not None and (why := self._is_gone(process)):
            return self._describe(row, process, "process", why, age)
        if is_running:
            if (ignored := self._ignores_for(row)) is not None:
                reason = Reason(IGNORES, seconds=f"{ignored:.0f}")
                return self._describe(row, process, "running", reason, age)
            longest = self.older_than
            if longest is None:
                longest = row["stuck_after"] if row["stuck_after"] is not None else self.settings.stuck_after
            if longest is not None and age > longest:
                return self._describe(row, process, "running", Reason(RUNS, seconds=f"{longest:g}"), age)
        elif age > self._longest_wait:
            is_unknown = known is not None and row["process"] is None and row["name"] not in known
            reason = Reason(FUNCTION_UNKNOWN if is_unknown else WAITS, seconds=f"{self._longest_wait:g}")
            return self._describe(row, process, "waiting", reason, age)
        return None

    def _waits_since(self, row: dict[str, Any]) -> datetime | None:
        """Return the moment from which a task could be started. It may be after an earlier attempt."""
        moments = [row["created_at"], row["run_after"]]
        history = row["transitions"]
        if isinstance(history, list) and history and isinstance(history[-1], dict):
            moments.append(parse_moment(history[-1].get("at")))
        return max((moment for moment in moments if moment is not None), default=None)

    def _is_gone(self, process: Process | None) -> Reason | None:
        """Return the reason why a process cannot go on with its tasks; None if it can."""
        standing = find_standing(process, self.settings, self.now)
        if standing is Standing.UP:
            return None
        if process is None:
            return Reason(NOT_KNOWN)
        if standing is Standing.OVER:
            return Reason(ENDED, state=process.state)
        return Reason(SILENT, seconds=f"{_silence(process, self.now):.0f}")

    def _describe(
        self, row: dict[str, Any], process: Process | None, kind: str, reason: Reason, age: float
    ) -> StuckTask:
        is_alive = kind != "process" and process is not None
        return StuckTask(
            row["id"],
            row["name"],
            row["status"],
            kind,
            reason,
            age,
            row["process"],
            process_name(process),
            read_place(row["await_place"], row["started_at"]) if is_alive and row["status"] == "RUNNING" else None,
            blocked_for(process, self.now) if is_alive else None,
        )

    def _ignores_for(self, row: dict[str, Any]) -> float | None:
        """Return the seconds for which this attempt has ignored its cancellation; None if it has not."""
        place = read_place(row["await_place"], row["started_at"]) or {}
        since = parse_moment(place.get("ignores_cancellation_since"))
        return seconds_since(since, self.now) if since is not None else None


def _silence(process: Process, now: datetime) -> float:
    return (now - (process.beat_at or process.started_at)).total_seconds()
