"""Cancellation of rows that wait in the table as READY."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from django.db import router

from .. import transitions
from ..models import BackgroundTask
from ..process.record import Record
from ..process.state import ProcessState
from ..status import Status
from ..transitions import Verdict
from .announcer import announce
from .statements import bounded_transaction
from .tally import Tally

MAX_IDS = 200  # In one query.


class WaitingRows:
    """Works on the journal's thread."""

    def __init__(self, state: ProcessState, tally: Tally, submit: Callable[[Callable[[], None]], None]) -> None:
        """
        Args:
            submit: runs a function on the journal's thread.
        """
        self._state = state
        self._tally = tally
        self._submit = submit

    def cancel(self, record: Record) -> None:
        """Cancel a task that waits in the table, or ask the process that has claimed it. From any thread."""
        self._submit(partial(self._cancel, record))

    def cancel_requested(self, records: list[Record]) -> None:
        """
        Cancel the tasks whose cancellation was requested while their attempt came to its end.

        They are READY again, and may wait for long. Called on the journal's thread.
        """
        requested = BackgroundTask.objects.using(router.db_for_write(BackgroundTask)).filter(
            cancel_requested_at__isnull=False
        )
        for start in range(0, len(records), MAX_IDS):
            part = {record.id: record for record in records[start : start + MAX_IDS]}
            for id_ in requested.filter(pk__in=list(part)).values_list("pk", flat=True):
                self.cancel(part[id_])

    def _cancel(self, record: Record) -> None:
        reason = "cancelled on request"
        ended: list[Verdict] = []
        alias = router.db_for_write(BackgroundTask)
        with bounded_transaction(alias):
            transitions.cancel(alias, record.id, str(self._state.id), reason, ended=ended)
        for verdict in ended:
            record.history.append((Status.CANCELLED, time.time(), record.attempt, reason))
            self._tally.count_verdict(verdict)
            announce(record, tuple(record.history), self._state.id)
            record.wake_waiters()
