"""The claimer: takes READY rows from the table for the free slots of this process."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import Sequence
from contextvars import Context
from typing import Any

from django.db import router, transaction
from django.db.models import Q
from django.utils import timezone

from ..definition import Task
from ..log import log
from ..models import BackgroundTask
from ..options import Verdict
from ..runtime.announcer import announce_all
from ..runtime.extras import Extras
from ..runtime.record import Record
from ..runtime.runner import Runner
from ..runtime.statements import Row, statements_for
from ..sensitive import hide_values, unseal
from ..status import Status
from ..versions import upgrade, version_of

NEWER = "Task %s: this process has its version %s and leaves rows of version %s to processes with newer code."


class Claimer:
    """Claims when slots are free: at once while rows are known to wait, else every POLL_INTERVAL."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._next = 0.0
        # Names with the fingerprints of versions that are newer than this code, as in the middle of a deploy: the rows
        # are left to processes that have it.
        self._newer: set[tuple[str, str]] = set()

    def seconds_until_due(self, now: float) -> float:
        runner = self._runner
        if runner.draining or runner.held:
            return runner.settings.poll_interval
        if not (runner.claims_for_others or runner.has_backlog):
            return min(max(runner.due_at - time.time(), 0.0), runner.settings.poll_interval)
        if runner.has_backlog and runner.slots:
            return 0.0
        return max(min(self._next - now, runner.due_at - time.time()), 0.0)

    def run_once(self, now: float) -> None:
        runner = self._runner
        self._next = now + runner.settings.poll_interval
        if runner.due_at <= time.time():
            runner.due_at = math.inf  # What is due later is found by a look, up to POLL_INTERVAL late.
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
        for name, fingerprint in self._newer:
            known = known.exclude(Q(name=name) & Q(signature_fingerprint=fingerprint))
        # Ordered as the index is, or PostgreSQL may hope to meet one soon as it reads the whole table.
        return bool(known.order_by("-priority", "id").values_list("pk")[:1])

    def _claim(self, count: int) -> list[Record]:
        runner = self._runner
        alias = router.db_for_write(BackgroundTask)
        statements = statements_for(alias, runner.journal.process_id, runner.settings.release)
        at = time.time()
        while True:
            with statements.transaction() as cursor:
                rows = statements.claim(cursor, runner.registry.functions, count, at, runner.queues, self._newer)
                is_ours = not self._note_newer(rows)
                if not is_ours:
                    transaction.set_rollback(True, using=alias)  # As if they had never been claimed.
                elif uncounted := statements.count_claimed(cursor, rows):
                    statements.count_fired(cursor, uncounted)
            if is_ours:
                break
        loop = runner.loops.find_main() or runner.loops.start_bridge()
        records = [self._make_record(row, at, loop) for row in rows]
        announce_all([(record, record.history) for record in records], runner.journal.process_id)
        return records

    def _note_newer(self, rows: Sequence[Row]) -> bool:
        """Remember which of these are of a newer version than this code has; tell whether there are any."""
        functions = self._runner.registry.functions
        is_any_newer = False
        for _, name, *_, fingerprint, _, _ in rows:
            version = version_of(fingerprint)
            task = functions.get(name)  # MariaDB may find a name that is written in other letters.
            if task is not None and version > task.options.version:
                is_any_newer = True
                if all(name != told for told, _ in self._newer):  # Once for each name.
                    log(logging.WARNING, NEWER, name, task.options.version, version)
                self._newer.add((name, fingerprint))
        return is_any_newer

    def _make_record(self, row: Row, at: float, loop: asyncio.AbstractEventLoop) -> Record:
        number, name, args, kwargs, attempt, *options, key, unique_for, transitions, checkpoint = row[:-3]
        fingerprint, release, _ = row[-3:]
        runner = self._runner
        task = runner.registry.functions[name]
        entry = (Status.RUNNING, at, attempt, "claimed")
        # A record that was fired here goes on as itself, so that its handle sees how it ends.
        record = runner.registry.handed_over.pop(number, None)
        if record is None:
            record = Record(number, name, task, (), {}, loop, Context(), entry)
        try:
            prior = _load(transitions)
            task = _as_it_was_fired(task, *options)
            record.start_claimed(task, prior if isinstance(prior, list) else [], entry, loop)
            record.fired_with = fingerprint, release
            record.args, record.kwargs, record.unfit = _prepare_arguments(task, args, kwargs, fingerprint)
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


def _as_it_was_fired(
    task: Task[..., Any], on_lost: Verdict, stuck_after: float | None, max_attempts: int, kept: Any
) -> Task[..., Any]:
    """Return the task with the options of its row, which `.using(…)` or another release may have made different."""
    different: dict[str, Any] = dict(_load(kept) or {})
    if on_lost != task.on_lost:
        different["on_lost"] = on_lost
    if stuck_after != task.stuck_after:
        different["stuck_after"] = stuck_after
    if max_attempts != task.max_attempts:
        different["max_attempts"] = max_attempts
    return task.using(**different) if different else task


def _load(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str | bytes) else value


def _prepare_arguments(
    task: Task[..., Any], args: Any, kwargs: Any, fingerprint: str
) -> tuple[tuple[Any, ...], dict[str, Any], str]:
    """Return a row's arguments as the function takes them, or what is wrong with them: anybody may have written it."""
    args, kwargs = _load(args), _load(kwargs)
    if not (isinstance(args, list) and isinstance(kwargs, dict)):
        return (), {}, f"the row's arguments are a {type(args).__name__} and a {type(kwargs).__name__}"
    plain: list[Any] = []
    try:
        if task.sensitive:
            args, kwargs, plain = unseal(task.signature, args, kwargs)
        args, kwargs = upgrade(task.steps, version_of(fingerprint), task.options.version, args, kwargs)
    except ValueError as error:
        return (), {}, hide_values(plain)(str(error))
    return tuple(args), kwargs, ""
