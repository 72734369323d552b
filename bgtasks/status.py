"""
The statuses of a background task and which may follow which.

The table below is the only place that decides it; everything that writes a status asks `may_follow`.
"""

from django.db.models import TextChoices
from django.utils.translation import gettext_lazy as _


class Status(TextChoices):
    """Where a task stands. The first four are spelled as Django's `TaskResultStatus`."""

    READY = "READY", _("Ready")
    RUNNING = "RUNNING", _("Running")
    SUCCESSFUL = "SUCCESSFUL", _("Successful")
    FAILED = "FAILED", _("Failed")
    CANCELLED = "CANCELLED", _("Cancelled")
    INTERRUPTED = "INTERRUPTED", _("Interrupted")
    LOST = "LOST", _("Lost")

    @property
    def is_finished(self) -> bool:
        return self in FINISHED


LIVE = frozenset({Status.READY, Status.RUNNING})
FINISHED = frozenset(Status) - LIVE

# READY → INTERRUPTED and READY → LOST happen to coroutine objects only: a waiting task function stays READY for
# whichever process comes next.
TRANSITIONS: dict[Status | None, frozenset[Status]] = {
    None: frozenset({Status.READY, Status.RUNNING}),
    Status.READY: frozenset({Status.RUNNING, Status.CANCELLED, Status.FAILED, Status.INTERRUPTED, Status.LOST}),
    Status.RUNNING: frozenset(Status) - {Status.RUNNING},
    **{status: frozenset() for status in FINISHED},
}


def may_follow(previous: Status | None, status: Status) -> bool:
    """
    Tell whether `status` may follow `previous` (None: the task is not recorded yet).

    >>> may_follow(None, Status.RUNNING), may_follow(Status.SUCCESSFUL, Status.FAILED)
    (True, False)
    """
    return status in TRANSITIONS[previous]


UNSUCCESSFUL = sorted([Status.FAILED, Status.INTERRUPTED, Status.LOST])  # These need attention.
