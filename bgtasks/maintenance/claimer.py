"""The claimer: takes READY rows from the table for the free slots of this process."""

from __future__ import annotations

import asyncio
import json
import time
from contextvars import Context
from typing import Any

from django.db import router
from django.utils import timezone

from ..models import BackgroundTask
from ..runtime.announcer import announce_all
from ..runtime.extras import Extras
from ..runtime.record import Record
from ..runtime.runner import Runner
from ..runtime.statements import Row, statements_for
from ..status import Status


class Claimer:
    """Claims when slots are free: at once while rows are known to wait, else every POLL_INTERVAL."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._next = 0.0

    def seconds_until_due(self, now: float) -> float:
        runner = self._runner
        if runner.draining or runner.held:
            return runner.settings.poll_interval
        if not (runner.claims_for_others or runner.has_backlog):
            return min(runner.due.seconds_until_next(time.time()), runner.settings.poll_interval)
        if runner.has_backlog and runner.slots:
            return 0.0
        return max(min(self._next - now, runner.due.seconds_until_next(time.time())), 0.0)

    def run_once(self, now: float) -> None:
        runner = self._runner
        self._next = now + runner.settings.poll_interval
        if runner.due.take(time.time()):
            runner.has_backlog = True
        if not runner.slots or not (runner.has_backlog or self.is_any_ready()):
            return
        count = 0 if runner.draining or runner.held else runner.slots.take_all()
        used = 0
        try:
            if count:
                records = self._claim(count)
                used = len(records)
                runner.has_backlog = used == count
                for record in records:
                    runner.registry.live[record.number] = record
                if records:
                    records[0].loop.call_soon_threadsafe(runner.start_claimed, records)
        finally:
            runner.slots.give_back(count - used)

    def is_any_ready(self) -> bool:
        """Look before claiming: a claim that finds nothing would still take SQLite's write lock, twice a second."""
        runner = self._runner
        rows = BackgroundTask.objects.using(router.db_for_write(BackgroundTask)).ready(timezone.now())
        if runner.queues:
            rows = rows.filter(queue_name__in=runner.queues)
        known = rows.filter(name__in=list(runner.registry.functions))
        # Ordered as the index is, or PostgreSQL may hope to meet one soon as it reads the whole table.
        return bool(known.order_by("-priority", "id").values_list("pk")[:1])

    def _claim(self, count: int) -> list[Record]:
        runner = self._runner
        alias = router.db_for_write(BackgroundTask)
        statements = statements_for(alias, runner.journal.process_id, runner.settings.release)
        at = time.time()
        with statements.transaction() as cursor:
            rows = statements.claim(cursor, runner.registry.functions, count, at, runner.queues)
            if uncounted := statements.count_claimed(cursor, rows):
                statements.count_fired(cursor, uncounted)
        loop = runner.loops.find_main() or runner.loops.start_bridge()
        records = [self._make_record(row, at, loop) for row in rows]
        announce_all([(record, record.history) for record in records], runner.journal.process_id)
        return records

    def _make_record(self, row: Row, at: float, loop: asyncio.AbstractEventLoop) -> Record:
        number, name, args, kwargs, attempt, *options, key, unique_for, transitions, checkpoint, cancel, _ = row
        runner = self._runner
        task = runner.registry.functions[name]
        entry = (Status.RUNNING, at, attempt, "claimed")
        # A record that was fired here goes on as itself, so that its handle sees how it ends.
        record = runner.registry.handed_over.pop(number, None)
        if record is None:
            record = Record(number, name, task, (), {}, loop, Context(), entry)
        try:
            prior = _load(transitions)
            on_lost, stuck_after, max_attempts, kept = options
            task = task.restored(_load(kept) or {}, on_lost, stuck_after, max_attempts)
            record.start_claimed(task, prior if isinstance(prior, list) else [], entry, loop)
            record.args, record.kwargs, record.unfit = _load_arguments(args, kwargs)
            if cancel is not None:
                record.cancel_reason = "asked"  # While its last attempt ended.
            if record.extras is not None:
                record.extras.run_after = None  # Its moment has come.
            if key or checkpoint is not None:
                record.extras = record.extras or Extras()
                record.extras.key, record.extras.unique_for = key, unique_for
            if checkpoint is not None:
                assert record.extras is not None  # Just made.
                record.extras.checkpoint = checkpoint if isinstance(checkpoint, str) else json.dumps(checkpoint)
        except Exception as error:  # noqa: BLE001, RUF100  # Anybody may have written the row; the others are claimed too.
            record.start_claimed(task, [], entry, loop)
            record.unfit = f"the row cannot be read: {type(error).__name__}: {error}"
        return record


def _load(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str | bytes) else value


def _load_arguments(args: Any, kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any], str]:
    """Return a row's arguments, and what is wrong with them if they are none: anybody may have written the row."""
    args, kwargs = _load(args), _load(kwargs)
    if isinstance(args, list) and isinstance(kwargs, dict):
        return tuple(args), kwargs, ""
    return (), {}, f"the row's arguments are a {type(args).__name__} and a {type(kwargs).__name__}"
