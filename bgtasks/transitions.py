"""Writes statuses outside the journal, by conditional UPDATEs: a write that comes too late changes nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any
from uuid import UUID

from django.db import connections, transaction
from django.utils import timezone

from .models import BackgroundTask
from .models.moments import stamp_now
from .status import FINISHED, Status

CANCEL_TRIES = 5  # Between reading and writing its row the task may start, or be handed back.


class Cancellation(Enum):
    """The outcome of a request to cancel a task; true if the task is cancelled now."""

    DONE = "it is cancelled"
    ASKED = "the process that has it is asked to cancel it"
    TOO_LATE = "it had finished, or was deleted"
    MISSED = "it changed at each try"

    def __bool__(self) -> bool:
        return self is Cancellation.DONE


@dataclass(frozen=True)
class Verdict:
    """The outcome of a task that was ended, or made READY again, outside the process that ran it."""

    id: UUID
    name: str
    previous: Status
    status: Status
    attempt: int


def cancel(
    using: str, task_id: UUID, by: str, why: str, may_ask: bool = True, ended: list[Verdict] | None = None
) -> Cancellation:
    """
    Cancel a task that waits for any process, or ask its process to cancel it, which happens within POLL_INTERVAL.

    Args:
        using: the database alias of the rows.
        by: the process or user, for the history.
        why: the reason, for the history.
        may_ask: whether a task that a process has is cancelled too.
        ended: takes the verdict if the task is cancelled now. The caller counts and announces it after the commit.
    """
    rows = BackgroundTask.objects.using(using).filter(pk=task_id)
    for _ in range(CANCEL_TRIES):
        now = timezone.now()
        row = rows.values("name", "status", "attempt", "process", "transitions", "cancel_requested_at").first()
        if row is None or Status(row["status"]).is_finished:
            return Cancellation.TOO_LATE
        as_seen = rows.filter(status=row["status"], attempt=row["attempt"], process=row["process"])
        if row["process"] is None:
            entry = history_entry(Status.CANCELLED, row["attempt"], by, why)
            # `unique_for` applies to a task that was carried out. One cancelled while it waits frees its key.
            values = {"status": Status.CANCELLED, "finished_at": now, "live_key": None}
            if as_seen.update(**values, transitions=[*row["transitions"], entry]):
                if ended is not None:
                    previous = Status(row["status"])
                    ended.append(Verdict(task_id, row["name"], previous, Status.CANCELLED, row["attempt"]))
                return Cancellation.DONE
        elif not may_ask:
            return Cancellation.MISSED
        elif row["cancel_requested_at"] is not None or as_seen.update(cancel_requested_at=now):
            return Cancellation.ASKED
    return Cancellation.MISSED


@dataclass(frozen=True)
class KeyHolder:
    """The task that has a key."""

    id: UUID
    status: str
    process: UUID | None
    finished_at: datetime | None
    unique_for: float | None

    def has_let_go(self, now: datetime) -> bool:
        """Return whether the task is over, and its `unique_for` too."""
        if self.status not in FINISHED or self.finished_at is None:
            return False
        return self.finished_at + timedelta(seconds=self.unique_for or 0.0) <= now


KEY_HOLDER = ("id", "status", "process", "finished_at", "unique_for")  # The columns of a KeyHolder.


def find_key_holder(using: str, key: str) -> KeyHolder | None:
    """
    Return the task that has a key.

    Call it only after the unique column has refused the key, since the answer may be outdated.
    """
    # Without a lock: in a transaction of the project it would keep the journal from that row until the commit.
    found = BackgroundTask.objects.using(using).filter(live_key=key).values(*KEY_HOLDER).first()
    return KeyHolder(**found) if found is not None else None


def free_key(using: str, holder: KeyHolder) -> bool:
    """Free the key of a finished task whose `unique_for` is over; return whether it is free."""
    if not holder.has_let_go(timezone.now()):
        return False
    BackgroundTask.objects.using(using).filter(pk=holder.id, status=holder.status).update(live_key=None)
    return True


def give_verdicts(
    using: str, process: UUID, by: str, why: str, limit: int, counts: bool, only: Collection[UUID] | None = None
) -> list[Verdict]:
    """
    Give up to `limit` live tasks of an ended process their declared verdicts, in one transaction.

    A cancel request takes precedence over a rerun. Rows that another process has locked are skipped. A row that changes
    meanwhile keeps its change.

    Args:
        by: the process, command or user, for the history.
        why: the reason, for the history.
        counts: whether the attempt counts. An attempt that a drain cut short does not.
        only: these tasks. None: all.

    Returns:
        The given verdicts. Empty: no live task is left.
    """
    with transaction.atomic(using=using):
        rows = BackgroundTask.objects.using(using).filter(process=process)
        if only is not None:
            rows = rows.filter(pk__in=only)
        can_skip = connections[using].features.has_select_for_update_skip_locked
        verdicts: list[Verdict] = []
        for status, found in ((Status.RUNNING, rows.running()), (Status.READY, rows.waiting())):
            if can_skip:
                found = found.select_for_update(skip_locked=True)
            for row in found.order_by("id").values(*_JUDGED)[: limit - len(verdicts)]:
                verdict = judge(row, status, counts)
                entry = history_entry(verdict.status, verdict.attempt, by, _reason(row, verdict, why))
                if _write_verdict(rows, row, status, verdict, entry):
                    verdicts.append(verdict)
    return verdicts


def give_back(using: str, task_id: UUID, process: UUID, started_at: datetime | None, why: str) -> bool:
    """Make a task READY again that `process` claimed at `started_at` but never started; the attempt does not count."""
    with transaction.atomic(using=using):
        rows = BackgroundTask.objects.using(using).filter(process=process, started_at=started_at)
        row = rows.running().filter(pk=task_id).values(*_JUDGED).first()
        if row is None:
            return False
        verdict = Verdict(task_id, row["name"], Status.RUNNING, Status.READY, max(row["attempt"] - 1, 0))
        entry = history_entry(verdict.status, verdict.attempt, str(process), why)
        return _write_verdict(rows, row, Status.RUNNING, verdict, entry)


JUDGED = ("id", "name", "attempt", "max_attempts", "on_lost", "cancel_requested_at")  # They decide the verdict.
_JUDGED = (*JUDGED, "transitions")


def judge(row: Mapping[str, Any], status: Status, counts: bool) -> Verdict:
    """Return the verdict of a task whose process has ended, without writing it."""
    attempt = row["attempt"]
    if row["cancel_requested_at"] is not None:
        verdict = Status.CANCELLED
    elif status is Status.RUNNING and row["on_lost"] == "rerun" and (attempt < row["max_attempts"] or not counts):
        verdict = Status.READY
        attempt = attempt if counts else max(attempt - 1, 0)
    else:
        verdict = Status.LOST
    return Verdict(row["id"], row["name"], status, verdict, attempt)


def _reason(row: dict[str, Any], verdict: Verdict, why: str) -> str:
    if verdict.status is Status.CANCELLED:
        return f"{why}; its cancellation was asked for"
    if verdict.status is Status.LOST and row["on_lost"] == "rerun":
        return f"{why}; no attempts left"
    return why


def _write_verdict(rows: Any, row: dict[str, Any], status: Status, verdict: Verdict, entry: dict[str, Any]) -> bool:
    history = row["transitions"] if isinstance(row["transitions"], list) else []
    values: dict[str, Any] = {"status": verdict.status, "attempt": verdict.attempt, "transitions": [*history, entry]}
    if verdict.status is Status.READY:
        values["process"] = None
    else:
        values |= {"finished_at": timezone.now(), "live_key": None}
    as_seen = rows.filter(pk=row["id"], status=status, attempt=row["attempt"])
    return bool(as_seen.update(**values))


def note_late(using: str, task_id: UUID, by: str, why: str) -> None:
    """Add an entry for a late result to the history of a row, which keeps its status."""
    rows = BackgroundTask.objects.using(using).filter(pk=task_id)
    row = rows.values("status", "attempt", "transitions").first()
    if row is not None:
        entry = history_entry(Status(row["status"]), row["attempt"], by, why)
        rows.filter(status=row["status"], attempt=row["attempt"]).update(transitions=[*row["transitions"], entry])


def history_entry(status: Status, attempt: int, by: str, why: str) -> dict[str, Any]:
    """Return the entry for the history of a row that is written with its status."""
    return {"status": status.value, "at": stamp_now(), "attempt": attempt, "by": by, "why": why}
