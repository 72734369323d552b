"""Pauses and resumes task functions and queues, on all processes within POLL_INTERVAL."""

from __future__ import annotations

from collections.abc import Sequence

from ..models import Pause


def pause(using: str, kind: Pause.Kind, names: Sequence[str], by: str) -> list[str]:
    """Pause functions or queues; return those that were not paused yet."""
    rows = Pause.objects.using(using)
    there = set(rows.filter(kind=kind, name__in=names).values_list("name", flat=True))
    new = [name for name in dict.fromkeys(names) if name not in there]
    # Another user may pause the same at this moment.
    rows.bulk_create([Pause(kind=kind, name=name, paused_by=by) for name in new], ignore_conflicts=True)
    return new


def resume(using: str, kind: Pause.Kind, names: Sequence[str]) -> list[str]:
    """Resume functions or queues; return those that were paused."""
    rows = Pause.objects.using(using).filter(kind=kind, name__in=names)
    found = list(rows.order_by("name").values_list("name", flat=True))
    rows.delete()
    return found
