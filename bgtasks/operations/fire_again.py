"""Fires finished tasks again: inserts a new row for each, which waits as READY for any process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils import timezone

from ..conf import get_settings
from ..models import BackgroundTask
from ..status import LIVE, Status
from ..transitions import find_key_holder, free_key, history_entry

# The columns that the new task takes from the old one.
COPIED = (
    "name", "args", "kwargs", "signature_fingerprint", "on_lost", "stuck_after", "max_attempts", "priority",
    "queue_name", "options", "key", "unique_for", "rate_key",
)  # fmt: skip


class Refusal(Enum):
    """Why a task is not fired again."""

    GONE = "it was deleted"
    LIVE = "it has not finished"
    NO_FUNCTION = "it was a coroutine object, which cannot be run again"
    NO_ARGUMENTS = "its arguments could not be stored"
    REPEATED = "it was fired again already, and that task has not finished"
    KEY_TAKEN = "another task has its key, or the time for which its key stays taken is not over"


@dataclass(frozen=True)
class FiredAgain:
    """The outcome for each task, by the id of the old one."""

    fired: dict[UUID, BackgroundTask] = field(default_factory=dict)  # The new task.
    refused: dict[UUID, Refusal] = field(default_factory=dict)


def fire_again(using: str, ids: Sequence[UUID], by: str, why: str) -> FiredAgain:
    """
    Fire finished tasks again, in one transaction: in the caller's, if one is open on `using`.

    The runtime of this process is neither needed nor started: a process that has a free slot and knows the function
    claims the new row within its POLL_INTERVAL. A task is refused while an earlier new task of it is live, so that a
    second click, or a second user, fires nothing twice. The new task has the key of the old one. It is refused while
    another task has that key, by the unique column.

    Args:
        using: the database alias of the rows.
        by: the user or command, for the history.
        why: the reason, for the history.
    """
    outcome = FiredAgain()
    rows = BackgroundTask.objects.using(using)
    with transaction.atomic(using=using):
        # Locked, so that a concurrent call for the same tasks waits, and then sees our new rows.
        locked = rows.select_for_update().filter(pk__in=ids).order_by("pk")
        found = {row.pk: row for row in locked.only("status", "is_task_function", *COPIED)}
        live = rows.filter(fired_again_from__in=ids, status__in=sorted(LIVE))
        repeated = set(live.values_list("fired_again_from", flat=True))
        for pk in ids:
            refusal = Refusal.REPEATED if pk in repeated else find_obstacle(found.get(pk))
            if refusal is None:
                task = _make(found[pk], by, why)
                if not task.key or _insert_keyed(using, task):
                    outcome.fired[pk] = task
                    continue
                refusal = Refusal.KEY_TAKEN
            outcome.refused[pk] = refusal
        rows.bulk_create(task for task in outcome.fired.values() if not task.key)
    return outcome


def _insert_keyed(using: str, task: BackgroundTask) -> bool:
    """Insert a task with a key; return whether the key was free."""
    for _ in range(2):  # The second time after the holder's key has been freed, since its `unique_for` was over.
        try:
            with transaction.atomic(using=using):
                task.save(using=using, force_insert=True)
        except IntegrityError:
            holder = find_key_holder(using, task.key)
            if holder is not None and not free_key(using, holder):
                return False
        else:
            return True
    return False


def find_obstacle(task: BackgroundTask | None) -> Refusal | None:
    """Return why a task cannot be fired again, as far as its row shows."""
    if task is None:
        return Refusal.GONE
    if task.status in LIVE:
        return Refusal.LIVE
    if not task.is_task_function:
        return Refusal.NO_FUNCTION
    if not (isinstance(task.args, list) and isinstance(task.kwargs, dict)):
        return Refusal.NO_ARGUMENTS
    return None


def _make(old: BackgroundTask, by: str, why: str) -> BackgroundTask:
    # No process has recorded it, so it has no origin: the process that claims it counts it as fired.
    return BackgroundTask(
        **{name: getattr(old, name) for name in COPIED},
        created_at=timezone.now(),
        live_key=old.key or None,
        release=get_settings().release,
        fired_again_from=old.pk,
        transitions=[history_entry(Status.READY, 0, by, why)],
    )
