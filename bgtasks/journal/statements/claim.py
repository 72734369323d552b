"""The claim: its SQL, and the condition for the READY rows that it may take."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from django.db.backends.utils import CursorWrapper
from django.db.models import Q

from ...status import Status
from .rows import Row, Rows, number_of

_CLAIMED = (
    "id", "name", "args", "kwargs", "attempt", "on_lost", "stuck_after", "max_attempts", "options", "key",
    "unique_for", "transitions", "checkpoint", "cancel_requested_at", "signature_fingerprint", "release", "origin",
)  # fmt: skip

MAX_PARAMETERS = 500  # In one statement; SQLite bounds them.


@dataclass(frozen=True)
class Wanted:
    """The READY rows that a claim may take."""

    names: Sequence[str]
    queues: Sequence[str] = ()  # Only rows of these queues. Empty: of all queues but `not_queues`.
    not_queues: Sequence[str] = ()
    rate_key: str | None = None  # None: rows of any rate key.
    not_versions: Sequence[tuple[str, str]] = ()  # (name, fingerprint) of rows that are left to other processes.

    @property
    def condition(self) -> str:
        parts = [f"name IN ({placeholders(self.names)})"]
        if self.queues:
            parts.append(f"queue_name IN ({placeholders(self.queues)})")
        if self.not_queues:
            parts.append(f"queue_name NOT IN ({placeholders(self.not_queues)})")
        if self.rate_key is not None:
            parts.append("rate_key = %s")
        parts += ["NOT (name = %s AND signature_fingerprint = %s)"] * len(self.not_versions)
        return " AND ".join(parts)

    @property
    def values(self) -> list[str]:
        """The parameters of the condition."""
        rate_key = [] if self.rate_key is None else [self.rate_key]
        versions = chain.from_iterable(self.not_versions)
        return [*self.names, *self.queues, *self.not_queues, *rate_key, *versions]

    def choose(self, ready: Any) -> Any:
        """Return the wanted rows of a queryset of READY rows."""
        rows = ready.filter(name__in=self.names)
        if self.queues:
            rows = rows.filter(queue_name__in=self.queues)
        if self.not_queues:
            rows = rows.exclude(queue_name__in=self.not_queues)
        for name, fingerprint in self.not_versions:
            rows = rows.exclude(Q(name=name) & Q(signature_fingerprint=fingerprint))
        return rows


def placeholders(values: Sequence[object]) -> str:
    """Return a parameter of SQL for each value, as in `IN (…)`."""
    return ", ".join(["%s"] * len(values))


class ClaimStatements(Rows):
    """The statements of a claim, in the form of SQLite. The other databases override `claim` and `now`."""

    _table: str

    append_transition = ""  # An expression with one parameter, the new entry as JSON; SQL adds its attempt.
    claim_lock = ""  # Lets simultaneous claims take different rows. SQLite has one writer at a time.

    def claim(self, cursor: CursorWrapper, wanted: Wanted, count: int, at: float) -> list[Row]:
        """
        Claim up to `count` READY rows for this process that are due at the moment `at`, in seconds since the epoch.

        Returns:
            Rows with the columns of `_CLAIMED`: the id as a number, the history after the claim. JSON is text or read
            already, as the driver does it.
        """
        moment = self.moment(at)
        cursor.execute(
            f"""UPDATE {self._table} SET {self._claim_changes}
            WHERE id IN ({self._select_ready(wanted)}) AND status = 'READY' AND process IS NULL
            RETURNING {self._claimed}""",  # noqa: S608  # Our own names.
            [self._claim_entry(at), self._process, moment, *wanted.values, moment, count],
        )
        return [(number_of(row[0]), *row[1:]) for row in cursor.fetchall()]

    def now(self, cursor: CursorWrapper) -> float:
        """Return the moment by the database's clock, in seconds since the epoch. The clocks of hosts may differ."""
        return time.time()  # SQLite has none of its own.

    def count_claimed(self, cursor: CursorWrapper, claimed: Sequence[Row]) -> int:
        """Make this process the origin of claimed rows that have none; return how many to count as fired."""
        uncounted = [f"{row[0]:032x}" for row in claimed if row[-1] is None]
        for start in range(0, len(uncounted), MAX_PARAMETERS):
            part = uncounted[start : start + MAX_PARAMETERS]
            cursor.execute(
                f"UPDATE {self._table} SET origin = %s WHERE id IN ({placeholders(part)})",  # noqa: S608  # Our own names.
                [self._process, *part],
            )
        return len(uncounted)

    @property
    def _claim_changes(self) -> str:
        # The history comes first: in MariaDB an expression sees the results of the assignments before it.
        return (
            f"transitions = {self.append_transition}, status = 'RUNNING', process = %s, started_at = %s, "
            "attempt = attempt + 1"
        )

    @property
    def _claimed(self) -> str:
        return ", ".join(self.connection.ops.quote_name(name) for name in _CLAIMED)

    def _claim_entry(self, at: float) -> str:
        return self.transition((Status.RUNNING, at, 0, "claimed")).replace('"attempt": 0, ', "")

    def _select_ready(self, wanted: Wanted, columns: str = "id") -> str:
        return f"""SELECT {columns} FROM {self._table}
            WHERE status = 'READY' AND process IS NULL AND {wanted.condition}
                AND (run_after IS NULL OR run_after <= %s)
            ORDER BY priority DESC, id LIMIT %s {self.claim_lock}"""  # noqa: S608  # Our own names.
