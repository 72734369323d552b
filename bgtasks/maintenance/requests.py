"""The requests: what other processes ask of this one through the rows: to drain, to go on, to cancel a task."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import router
from django.utils import timezone

from ..journal.statements import bounded_transaction, statements_for
from ..models import BackgroundTask, Process
from ..runtime.runner import Runner
from ..status import Status

MAX_WAITING = 500  # Coroutine objects that wait here, in one look.
ACKNOWLEDGE_AGAIN = 0.02  # Seconds until the next look for starts that are on their way.


class Requests:
    """Reads this process's row, and the requests to cancel what it runs, every POLL_INTERVAL."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._next = 0.0
        self._obeyed: tuple[UUID, datetime] | None = None  # The request that holds this process, and under which id.

    def seconds_until_due(self, now: float) -> float:
        return max(self._next - now, 0.0)

    def run_once(self, now: float) -> None:
        self._next = now + self._runner.settings.poll_interval
        alias = router.db_for_write(BackgroundTask)
        if not self._runner.draining:  # The end of the process is a drain of its own.
            self._heed_drain(alias, now)
        self._heed_cancels(alias)

    def _heed_drain(self, alias: str, now: float) -> None:
        runner = self._runner
        row = Process.objects.using(alias).filter(pk=runner.journal.process_id)
        request = row.values_list("drain_requested_at", "drain_acknowledged_at").first()
        if request is None:
            return  # It is not written yet.
        requested_at, acknowledged_at = request
        if requested_at is None and self._obeyed is not None and self._obeyed[0] != runner.journal.process_id:
            # The process has a new row, as after it was taken for dead; what was asked of it still holds.
            requested_at = self._obeyed[1]
            _update(row, drain_requested_at=requested_at)
        if requested_at is None:
            self._obeyed = None
            if runner.held or acknowledged_at is not None:
                runner.release_hold()
                _update(row, drain_acknowledged_at=None, state=Process.State.ALIVE)
        elif acknowledged_at is None or not runner.held:
            self._obeyed = (runner.journal.process_id, requested_at)
            self._hold(row.filter(drain_requested_at=requested_at), now)

    def _hold(self, row: Any, now: float) -> None:
        """Start nothing more; acknowledge once all that was started is committed as RUNNING."""
        runner = self._runner
        if not runner.held:
            runner.hold()
            _update(row, state=Process.State.DRAINING)
        if runner.has_recorded_its_starts():
            _update(row, drain_acknowledged_at=timezone.now())
        else:
            self._next = now + min(ACKNOWLEDGE_AGAIN, runner.settings.poll_interval)

    def _heed_cancels(self, alias: str) -> None:
        runner = self._runner
        numbers = []
        if len(runner.slots) < runner.slots.count:  # Something runs.
            numbers += statements_for(alias, runner.journal.process_id, "").find_cancels()
        if waiting := runner.find_waiting_objects(MAX_WAITING):
            asked = BackgroundTask.objects.using(alias).filter(
                pk__in=[record.id for record in waiting], status=Status.READY, cancel_requested_at__isnull=False
            )
            numbers += [id_.int for id_ in asked.order_by().values_list("pk", flat=True)]
        for number in numbers:
            record = runner.registry.live.get(number)
            # Once: it may take its time to clean up.
            if record is not None and record.cancel_reason in (None, "timeout"):
                runner.cancel(record)


def _update(row: Any, **values: Any) -> None:
    with bounded_transaction(row.db):
        row.update(**values)
