"""The watcher: tells handles in this process how their tasks ended in another one."""

from __future__ import annotations

from django.db import router

from ..exceptions import TaskNotFound
from ..models import BackgroundTask
from ..runtime.record import Record
from ..runtime.runner import Runner
from ..status import FINISHED, Status

MAX_WATCHED = 500  # Rows in one look.


class Watcher:
    """Looks every POLL_INTERVAL at the rows that somebody awaits here and that are not in this process."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._next = 0.0

    def seconds_until_due(self, now: float) -> float:
        if not self._runner.registry.awaited:
            return self._runner.settings.poll_interval
        return max(self._next - now, 0.0)

    def run_once(self, now: float) -> None:
        self._next = now + self._runner.settings.poll_interval
        elsewhere = self._find_elsewhere()
        if not elsewhere:
            return
        rows = BackgroundTask.objects.using(router.db_for_write(BackgroundTask))
        statuses = dict(rows.filter(pk__in=[record.id for record in elsewhere.values()]).values_list("pk", "status"))
        self._tell_of_deleted([record for record in elsewhere.values() if record.id not in statuses])
        ended = [id_ for id_, status in statuses.items() if status in FINISHED]
        rows = rows.filter(pk__in=ended) if ended else rows.none()
        for row in rows.only("status", "attempt", "finished_at", "result", "error_type", "error_message"):
            record = elsewhere[row.pk.int]
            finished = row.finished_at.timestamp() if row.finished_at else 0.0
            record.value = row.result
            record.reason = f"{row.error_type}: {row.error_message}" if row.error_type else ""
            record.history.append((Status(row.status), finished, row.attempt, "in another process"))
            self._runner.registry.handed_over.pop(record.number, None)
            record.wake_waiters()

    def _tell_of_deleted(self, missing: list[Record]) -> None:
        """Wake who waits for a task whose row is gone. One that is not written yet has none, and is yet to come."""
        for record in missing:
            if record.written is not None:
                self._runner.registry.handed_over.pop(record.number, None)
                record.refuse(TaskNotFound(record.id))

    def _find_elsewhere(self) -> dict[int, Record]:
        """Return the awaited records that are not live here; forget those that nobody awaits any more."""
        registry = self._runner.registry
        for number, record in list(registry.awaited.items()):
            if not record.waiters:
                registry.awaited.pop(number, None)
        found = [record for number, record in list(registry.awaited.items()) if number not in registry.live]
        for record in found[:MAX_WATCHED]:  # To the end: all of them have their turn.
            registry.awaited.pop(record.number, None)
            registry.awaited[record.number] = record
        return {record.number: record for record in found[:MAX_WATCHED]}
