"""
The statuses of a background task, and the table of the statuses that may follow each.

The writers of a status do not read the table. Each writes under a condition on the status that the row has, and the
tests compare the histories of tasks with the table.
"""

from django.db.models import TextChoices
from django.utils.translation import gettext_lazy as _


class Status(TextChoices):
    """The status of a task. The first four are spelled as in Django's `TaskResultStatus`."""

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

# Only coroutine objects go from READY to INTERRUPTED or LOST: a waiting task function stays READY for the next process.
TRANSITIONS: dict[Status | None, frozenset[Status]] = {
    None: frozenset({Status.READY, Status.RUNNING}),
    Status.READY: frozenset({Status.RUNNING, Status.CANCELLED, Status.FAILED, Status.INTERRUPTED, Status.LOST}),
    Status.RUNNING: frozenset(Status) - {Status.RUNNING},
    **{status: frozenset() for status in FINISHED},
}


def may_follow(previous: Status | None, status: Status) -> bool:
    """
    Return whether `status` may follow `previous` (None: the task is not recorded yet).

    >>> may_follow(None, Status.RUNNING), may_follow(Status.SUCCESSFUL, Status.FAILED)
    (True, False)
    """
    return status in TRANSITIONS[previous]


UNSUCCESSFUL = sorted([Status.FAILED, Status.INTERRUPTED, Status.LOST])  # They need attention.
