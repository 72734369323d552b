"""The audit: compares the fired tasks with the rows that exist and those that were deleted, and checks each row."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain, islice
from uuid import UUID

from django.db import connections, transaction
from django.db.models import Count, Sum
from django.utils import timezone

from ..conf import Settings
from ..models import BackgroundTask, Ledger, Process
from ..status import FINISHED
from ..uuid7 import first_id_of

MAX_NAMED = 20  # Tasks named with a problem.

# The status that a row's history ends with.
_LAST_STATUS = {
    "sqlite": "json_extract(transitions, '$[#-1].status')",
    "postgresql": "transitions -> -1 ->> 'status'",
    "mysql": "JSON_UNQUOTE(JSON_EXTRACT(transitions, CONCAT('$[', JSON_LENGTH(transitions) - 1, '].status')))",
}


@dataclass(frozen=True)
class Problem:
    """A fault that the audit found."""

    kind: str  # "balance", "history", "state" or "process".
    what: str  # The end of a sentence that begins with the number of tasks.
    count: int
    tasks: list[str] = field(default_factory=list)  # Up to MAX_NAMED of them: name and id.


@dataclass
class Audit:
    """The result for one snapshot of the rows."""

    since: datetime | None = None  # Only tasks fired since then were checked, without the balance.
    fired: int = 0  # As counted by the processes, those without a row any more included.
    waiting_to_be_counted: int = 0  # Recorded in a transaction of the project; counted by the claim.
    rows: int = 0  # Counted tasks that are in the table.
    gone: int = 0  # Counted tasks that were pruned or deleted.
    by_status: dict[str, int] = field(default_factory=dict)
    being_rescued: int = 0  # Live tasks of ended processes, within the time that rescue needs.
    problems: list[Problem] = field(default_factory=list)

    @property
    def unaccounted(self) -> int:
        """Fired tasks that are neither in the table nor known to be gone. Below 0: rows that were never counted."""
        return self.fired - self.rows - self.gone


class Auditor:
    """
    Reads one snapshot, so that a change during the audit is not taken for a fault.

    Only a process that looks silent is looked at twice, since the clocks of two machines may differ.
    """

    def __init__(self, using: str, settings: Settings) -> None:
        self._using = using
        self._settings = settings
        self._vendor = connections[using].vendor
        self._table = connections[using].ops.quote_name(BackgroundTask._meta.db_table)

    @property
    def time_for_rescue(self) -> timedelta:
        """The longest time for which the tasks of a dead process wait for their verdict."""
        return timedelta(seconds=self._settings.dead_after + 4 * self._settings.heartbeat + 5)

    def balance(self) -> Audit:
        """Compare the counts only, without reading the content of the rows."""
        audit = Audit()
        with self._snapshot():
            self._read_counts(audit)
            counts = BackgroundTask.objects.using(self._using).aggregate(all=Count("*"), counted=Count("origin"))
            audit.rows = counts["counted"]
            audit.waiting_to_be_counted = counts["all"] - counts["counted"]
        return audit

    def audit(self, since: datetime | None = None) -> Audit:
        """
        Check each row, and the owners of all live tasks.

        Args:
            since: check only tasks fired since then, without the balance, which needs all rows.
        """
        audit = Audit(since)
        with self._snapshot():
            if since is None:
                self._read_counts(audit)
            self._check_rows(audit)
            silent = self._check_processes(audit)
        if silent:
            self._confirm_silent(audit, silent)
        return audit

    @contextlib.contextmanager
    def _snapshot(self) -> Iterator[None]:
        connection = connections[self._using]
        is_outermost = not connection.in_atomic_block
        with transaction.atomic(using=self._using):
            if is_outermost and self._vendor != "sqlite":  # On SQLite every transaction reads a snapshot.
                with connection.cursor() as cursor:
                    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            yield

    def _read_counts(self, audit: Audit) -> None:
        processes = Process.objects.using(self._using).aggregate(total=Sum("fired_count"))
        ledger = Ledger.objects.using(self._using).filter(pk=Ledger.ID).first() or Ledger()
        audit.fired = (processes["total"] or 0) + ledger.fired_count
        audit.gone = ledger.gone_count

    def _check_rows(self, audit: Audit) -> None:
        """Read each row once."""
        faults = self._faults()
        recent, values = self._recent(audit)
        sums = ", ".join(f"SUM(CASE WHEN {condition} THEN 1 ELSE 0 END)" for _, _, condition in faults)
        statement = (
            f"SELECT COALESCE(status, ''), COUNT(*), SUM(CASE WHEN origin IS NULL THEN 1 ELSE 0 END), {sums} "  # noqa: S608
            # Grouped by an expression: by the column, SQLite would read the whole index of the statuses.
            f"FROM {self._table} WHERE {recent} GROUP BY 1 ORDER BY 1"
        )
        totals = [0] * len(faults)
        with connections[self._using].cursor() as cursor:
            cursor.execute(statement, values)
            for status, count, uncounted, *found in cursor.fetchall():
                audit.by_status[status] = count
                audit.rows += count - int(uncounted)
                audit.waiting_to_be_counted += int(uncounted)
                totals = [total + int(number) for total, number in zip(totals, found, strict=True)]
        if audit.since is None and audit.unaccounted:
            what = (
                "fired, and neither in the table nor gone" if audit.unaccounted > 0 else "in the table, and never fired"
            )
            audit.problems.append(Problem("balance", what, abs(audit.unaccounted)))
        for (kind, what, condition), number in zip(faults, totals, strict=True):
            if number:
                audit.problems.append(Problem(kind, what, number, self._name_some(audit, condition)))

    def _faults(self) -> list[tuple[str, str, str]]:
        """Return the faults of a row, each as (kind, `what`, condition in SQL)."""
        finished = ", ".join(f"'{status.value}'" for status in sorted(FINISHED))
        last = _LAST_STATUS[self._vendor]
        return [
            ("history", "whose history ends with another status", f"COALESCE({last}, '') <> status"),
            ("state", "finished, without the time of it", f"status IN ({finished}) AND finished_at IS NULL"),
            (
                "state",
                "finished, and still holding a key",
                f"status IN ({finished}) AND live_key IS NOT NULL AND unique_for IS NULL",
            ),
            ("state", "live, with the time of an end", f"status NOT IN ({finished}) AND finished_at IS NOT NULL"),
            ("process", "running in no process", "status = 'RUNNING' AND process IS NULL"),
        ]

    @staticmethod
    def _recent(audit: Audit) -> tuple[str, list[str]]:
        """Return the condition in SQL for the rows to check, with its parameters."""
        if audit.since is None:
            return "1 = 1", []
        return "id >= %s", [first_id_of(audit.since).hex]

    def _name_some(self, audit: Audit, condition: str) -> list[str]:
        recent, values = self._recent(audit)
        with connections[self._using].cursor() as cursor:
            cursor.execute(
                f"SELECT name, id FROM {self._table} WHERE {recent} AND {condition} "  # noqa: S608
                f"ORDER BY id LIMIT {MAX_NAMED}",
                values,
            )
            return [f"{name} {UUID(str(id_))}" for name, id_ in cursor.fetchall()]

    def _check_processes(self, audit: Audit) -> dict[UUID, int]:
        """Check the owners of live tasks; return those that look silent, with their beats."""
        owners = BackgroundTask.objects.using(self._using).find_owners()
        processes = {row.pk: row for row in Process.objects.using(self._using).filter(pk__in=owners)}
        now = timezone.now()
        silent: dict[UUID, int] = {}
        for owner in sorted(owners):
            row = processes.get(owner)
            if row is None:
                self._blame(audit, owner, "of an unknown process")
            elif row.state in Process.UP:
                if row.beat_at is None or now - row.beat_at > self.time_for_rescue:
                    silent[owner] = row.beat
            elif row.stopped_at is None or now - row.stopped_at > self.time_for_rescue:
                self._blame(audit, owner, f"of a process that has ended ({row}, {row.state}), and not rescued")
            else:
                audit.being_rescued += self._count_live_of(owner)
        return silent

    def _confirm_silent(self, audit: Audit, silent: dict[UUID, int]) -> None:
        """Wait for two heartbeats, and report the tasks of the processes that still have not beaten."""
        time.sleep(2 * self._settings.heartbeat)
        rows = Process.objects.using(self._using).filter(pk__in=silent, state__in=Process.UP)
        for row in rows:
            if row.beat == silent[row.pk]:
                self._blame(audit, row.pk, f"of a process that does not beat ({row}), and not rescued")

    def _count_live_of(self, process: UUID) -> int:
        return sum(rows.count() for rows in BackgroundTask.objects.using(self._using).live_of(process))

    def _blame(self, audit: Audit, process: UUID, what: str) -> None:
        if count := self._count_live_of(process):
            parts = BackgroundTask.objects.using(self._using).live_of(process)
            rows = chain.from_iterable(part.order_by("id").values_list("name", "id")[:MAX_NAMED] for part in parts)
            named = [f"{name} {id_}" for name, id_ in islice(rows, MAX_NAMED)]
            audit.problems.append(Problem("process", f"live, {what}", count, named))
