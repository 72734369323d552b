"""The requests that other processes write into rows: to hold this process, to release it, to cancel a task."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from typing import Any
from uuid import UUID

from django.db import router
from django.utils import timezone

from ..conf import Settings
from ..journal.statements import bounded_transaction, statements_for
from ..models import BackgroundTask, Process
from ..process.registry import Registry
from ..process.state import ProcessState
from ..runtime.backlog import Backlog
from ..runtime.cancelling import Canceller
from ..runtime.executor import Executor
from ..status import Status

MAX_WAITING = 500  # Coroutine objects that wait here, in one query.
ACKNOWLEDGE_AGAIN = 0.02  # Seconds until the next check for starts that are on their way.


class Requests:
    """Reads the row of this process, and the requests to cancel its tasks, every POLL_INTERVAL."""

    def __init__(
        self,
        settings: Settings,
        state: ProcessState,
        registry: Registry,
        backlog: Backlog,
        executor: Executor,
        canceller: Canceller,
    ) -> None:
        self._settings = settings
        self._state = state
        self._registry = registry
        self._backlog = backlog
        self._executor = executor
        self._canceller = canceller
        self._next = 0.0
        # The request that holds this process, with the id that the process had. None: there is no such request.
        self._obeyed: tuple[UUID, datetime] | None = None

    def seconds_until_due(self, now: float) -> float:
        return max(self._next - now, 0.0)

    def run_once(self, now: float) -> None:
        self._next = now + self._settings.poll_interval
        alias = router.db_for_write(BackgroundTask)
        if not self._state.is_ending:  # A process that ends starts no tasks anyway.
            self._follow_hold_request(alias, now)
        self._follow_cancel_requests(alias)

    def _follow_hold_request(self, alias: str, now: float) -> None:
        row = Process.objects.using(alias).filter(pk=self._state.id)
        request = row.values_list("drain_requested_at", "drain_acknowledged_at").first()
        if request is None:
            return  # The row is not written yet.
        requested_at, acknowledged_at = request
        if requested_at is None and self._obeyed is not None and self._obeyed[0] != self._state.id:
            # The process has a new row, for example since it was declared dead. The request is still valid.
            requested_at = self._obeyed[1]
            _update(row, drain_requested_at=requested_at)
        if requested_at is None:
            self._obeyed = None
            if self._state.is_held or acknowledged_at is not None:
                self._release()
                _update(row, drain_acknowledged_at=None, state=Process.State.ALIVE)
        elif acknowledged_at is None or not self._state.is_held:
            self._obeyed = (self._state.id, requested_at)
            self._hold(row.filter(drain_requested_at=requested_at), now)

    def _hold(self, row: Any, now: float) -> None:
        """
        Start no more tasks, and acknowledge that once all started tasks are committed as RUNNING.

        Unlike a drain it can be undone. A start that is on its way still happens.
        """
        if not self._state.is_held:
            self._state.hold()
            _update(row, state=Process.State.DRAINING)
        if self._executor.has_recorded_its_starts():
            _update(row, drain_acknowledged_at=timezone.now())
        else:
            self._next = now + min(ACKNOWLEDGE_AGAIN, self._settings.poll_interval)

    def _release(self) -> None:
        """Start tasks again. Those that were fired meanwhile wait in the table, coroutine objects wait here."""
        self._state.release()
        self._backlog.expect_rows()
        self._executor.slots.match()

    def _follow_cancel_requests(self, alias: str) -> None:
        slots = self._executor.slots
        numbers = []
        if len(slots) < slots.count:  # A task runs.
            numbers += statements_for(alias, self._state.id, "").find_cancels()
        objects = (record for record in slots.waiting if record.task is None and record.is_live)
        if waiting := list(islice(objects, MAX_WAITING)):
            asked = BackgroundTask.objects.using(alias).filter(
                pk__in=[record.id for record in waiting], status=Status.READY, cancel_requested_at__isnull=False
            )
            numbers += [id_.int for id_ in asked.order_by().values_list("pk", flat=True)]
        for number in numbers:
            record = self._registry.live.get(number)
            # Only once: a second cancellation would disturb its clean-up.
            if record is not None and record.cancel_reason in (None, "timeout"):
                self._canceller.cancel(record)


def _update(row: Any, **values: Any) -> None:
    with bounded_transaction(row.db):
        row.update(**values)
