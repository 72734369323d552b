"""The watcher: wakes the callers in this process that await tasks of other processes."""

from __future__ import annotations

from uuid import UUID

from django.db import router

from ..conf import Settings
from ..exceptions import TaskNotFound
from ..models import BackgroundTask
from ..process.record import Record
from ..process.registry import Registry
from ..process.state import ProcessState
from ..status import FINISHED, Status
from .push import Push

MAX_WATCHED = 500  # Rows in one query.


class EndWatcher:
    """
    Reads every POLL_INTERVAL the rows of tasks that are awaited here, but not live in this process.

    With a channel layer it also reads a row as soon as another process reports its end, see `Push`.
    """

    def __init__(self, settings: Settings, state: ProcessState, registry: Registry, push: Push) -> None:
        self._settings = settings
        self._state = state
        self._registry = registry
        self._push = push
        self._next = 0.0

    def seconds_until_due(self, now: float) -> float:
        if not self._registry.awaited:
            return self._settings.poll_interval
        if self._push.is_look_due:
            return 0.0
        return max(self._next - now, 0.0)

    def run_once(self, now: float) -> None:
        due = self._push.take_due(MAX_WATCHED)
        is_poll = now >= self._next
        if is_poll:
            self._next = now + self._settings.poll_interval
            self._forget_unawaited()
        elsewhere = self._find_elsewhere(due, is_poll)
        if elsewhere:
            self._look(elsewhere, is_poll)

    def _look(self, elsewhere: dict[int, Record], is_poll: bool) -> None:
        rows = BackgroundTask.objects.using(router.db_for_write(BackgroundTask))
        found = rows.filter(pk__in=[record.id for record in elsewhere.values()])
        statuses: dict[UUID, str] = {}
        owners: dict[int, UUID] = {}
        for id_, status, process_id in found.values_list("pk", "status", "process"):
            statuses[id_] = status
            if status == Status.RUNNING and process_id not in (None, self._state.id):
                owners[id_.int] = process_id
        self._push.ask(owners, is_poll)
        self._refuse_deleted([record for record in elsewhere.values() if record.id not in statuses])
        ended = [id_ for id_, status in statuses.items() if status in FINISHED]
        rows = rows.filter(pk__in=ended) if ended else rows.none()
        for row in rows.only("status", "attempt", "finished_at", "result", "error_type", "error_message"):
            record = elsewhere[row.pk.int]
            finished = row.finished_at.timestamp() if row.finished_at else 0.0
            record.value = row.result
            record.reason = f"{row.error_type}: {row.error_message}" if row.error_type else ""
            record.history.append((Status(row.status), finished, row.attempt, "in another process"))
            self._registry.handed_over.pop(record.number, None)
            record.wake_waiters()

    def _refuse_deleted(self, missing: list[Record]) -> None:
        """Wake the callers of tasks whose rows are gone. A task whose row was never written may still get one."""
        for record in missing:
            if record.written is not None:
                self._registry.handed_over.pop(record.number, None)
                record.refuse(TaskNotFound(record.id))

    def _forget_unawaited(self) -> None:
        registry = self._registry
        for number, record in list(registry.awaited.items()):
            if not record.waiters:
                registry.awaited.pop(number, None)
        self._push.forget_all_but(registry.awaited)

    def _find_elsewhere(self, due: set[int], is_poll: bool) -> dict[int, Record]:
        """Return awaited records that are not live here: the due ones, and in a poll the others after them."""
        registry = self._registry
        awaited = registry.awaited
        numbers = [number for number in due if number in awaited]
        if is_poll:
            numbers += [number for number in list(awaited) if number not in due]
        found = [awaited[number] for number in numbers if number not in registry.live]
        for record in found[:MAX_WATCHED]:  # They go to the end of the line, so that each record gets its turn.
            awaited.pop(record.number, None)
            awaited[record.number] = record
        return {record.number: record for record in found[:MAX_WATCHED]}
