"""The condition of a claim: which READY rows it may take, as SQL and as a queryset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from django.db.models import Q


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
