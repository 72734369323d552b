"""The claimer: takes READY rows from the table for the free slots of this process."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import Sequence
from contextvars import Context
from dataclasses import replace
from typing import Any

from django.db import router, transaction
from django.db.backends.utils import CursorWrapper
from django.utils import timezone

from ..definition import Task
from ..definition.rate import Rate
from ..definition.sensitive import hide_values, unseal
from ..definition.versions import upgrade, version_of
from ..journal.announcer import announce_all
from ..journal.rates import Allowance, Bundle, try_to_lock
from ..journal.statements import Row, Statements, Wanted, statements_for
from ..log import log
from ..models import BackgroundTask
from ..process.extras import Extras
from ..process.record import Record
from ..runtime.limits import Group
from ..runtime.runner import Runner
from ..status import Status

NEWER = "Task %s: this process has its version %s and leaves rows of version %s to processes with newer code."

MAX_RATE_KEYS = 100  # Of one function in one claim.
LOCKED_AGAIN = 0.05  # Seconds until another try, when another process has the row of a rate.


class Claimer:
    """
    Claims when slots are free: at once while rows are known to wait, else every POLL_INTERVAL.

    What has limits of its own is claimed apart, for what these have room: see `Limits.groups`.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._next = 0.0
        self._bundles: dict[str, list[Bundle]] = {}  # Of each limiter, those that may still count.
        self._usual: dict[str, float] = {}  # Seconds that the last one of each limiter took.
        # Names with the fingerprints of versions that are newer than this code, as in the middle of a deploy: the rows
        # are left to processes that have it.
        self._newer: set[tuple[str, str]] = set()

    def seconds_until_due(self, now: float) -> float:
        runner = self._runner
        if runner.draining or runner.held:
            return runner.settings.poll_interval
        if runner.slots and (runner.has_backlog or runner.limits.is_due):
            return 0.0
        until_moment = min(runner.due.seconds_until_next(time.time()), runner.limits.due_at - time.time())
        if runner.claims_for_others or runner.has_backlog:
            return max(min(self._next - now, until_moment), 0.0)
        return max(min(runner.settings.poll_interval, until_moment), 0.0)

    def run_once(self, now: float) -> None:
        runner = self._runner
        limits = runner.limits
        self._next = now + runner.settings.poll_interval
        if runner.due.take(time.time()):
            runner.has_backlog = True
        if limits.due_at <= time.time():
            limits.due_at, limits.is_due = math.inf, True
        if not runner.slots or runner.draining or runner.held:
            return
        has_backlog, is_due = runner.has_backlog, limits.is_due or runner.has_backlog
        limits.is_due = is_left = False
        for group in limits.groups(runner.queues):
            is_expected = is_due if group.is_limited else has_backlog
            if is_expected or self.is_any_ready(group.wanted):
                is_full = self._claim_for(group)
                is_left = is_left or (is_full and not group.is_limited)
        runner.has_backlog = is_left

    def is_anything_ready(self) -> bool:
        return any(self.is_any_ready(group.wanted) for group in self._runner.limits.groups(self._runner.queues))

    def is_any_ready(self, wanted: Wanted) -> bool:
        """Look before claiming: a claim that finds nothing would still take SQLite's write lock, twice a second."""
        rows = BackgroundTask.objects.using(router.db_for_write(BackgroundTask)).ready(timezone.now())
        # Ordered as the index is, or PostgreSQL may hope to meet one soon as it reads the whole table.
        return bool(self._leave_newer(wanted).choose(rows).order_by("-priority", "id").values_list("pk")[:1])

    def _claim_for(self, group: Group) -> bool:
        """Claim for the free slots that the limits of a group leave; tell whether all were used."""
        runner = self._runner
        taken = 0
        while runner.slots.take():
            if not runner.limits.take(group.gates):
                runner.slots.give_back()
                break
            taken += 1
        used = 0
        try:
            if taken:
                records = self._claim(group, taken)
                used = len(records)
                for record in records:
                    runner.registry.live[record.number] = record
                if records:
                    records[0].loop.call_soon_threadsafe(runner.start_claimed, records)
        finally:
            for _ in range(taken - used):
                for gate in group.gates:
                    gate.give_back()
            runner.slots.give_back(taken - used)
        is_full = used == taken
        for gate in group.gates:
            gate.is_wanted = is_full
        return is_full

    def _claim(self, group: Group, count: int) -> list[Record]:
        runner = self._runner
        alias = router.db_for_write(BackgroundTask)
        statements = statements_for(alias, runner.journal.process_id, runner.settings.release)
        at = time.time()
        while True:
            bundles: list[Bundle] = []
            with statements.transaction() as cursor:
                if group.rate is None:
                    rows = statements.claim(cursor, self._leave_newer(group.wanted), count, at)
                else:
                    rows, bundles = self._claim_by_rate(statements, cursor, group, group.rate, count, at)
                is_ours = not self._note_newer(rows)
                if not is_ours:
                    transaction.set_rollback(True, using=alias)  # As if they had never been claimed.
                elif uncounted := statements.count_claimed(cursor, rows):
                    statements.count_fired(cursor, uncounted)
            if is_ours:
                break
        loop = runner.loops.find_main() or runner.loops.start_bridge()
        records = [self._make_record(row, at, loop) for row in rows]
        for index, record in enumerate(records):
            record.gates = (*group.gates, *bundles[index : index + 1])
        for bundle in dict.fromkeys(bundles):
            self._bundles.setdefault(bundle.limiter, []).append(bundle)
        announce_all([(record, record.history) for record in records], runner.journal.process_id)
        return records

    def _claim_by_rate(
        self, statements: Statements, cursor: CursorWrapper, group: Group, rate: Rate, count: int, at: float
    ) -> tuple[list[Row], list[Bundle]]:
        """Claim as many as the rate allows now, of each rate key; return the bundle of each row too."""
        limits = self._runner.limits
        wanted = self._leave_newer(group.wanted)
        ready = wanted.choose(BackgroundTask.objects.using(statements.alias).ready(timezone.now()))
        keys = sorted(set(ready.order_by().values_list("rate_key", flat=True).distinct()[:MAX_RATE_KEYS]))
        function = self._runner.registry.functions[wanted.names[0]].name
        rows: list[Row] = []
        bundles: list[Bundle] = []
        for key in keys:
            name = f"key {key}" if key else f"function {function}"
            if not try_to_lock(statements.alias, name):
                limits.due_at = min(limits.due_at, at + LOCKED_AGAIN)
                continue
            own = self._find_own(name, rate)
            allowance = Allowance(statements.alias, name, rate, statements.now(cursor), own, self._usual.get(name))
            most = min(count - len(rows), allowance.count)
            found = statements.claim(cursor, replace(wanted, rate_key=key), most, at) if most else []
            bundle = allowance.use(len(found))
            rows += found
            bundles += [bundle] * len(found)
            if len(found) == allowance.count:  # More may wait.
                limits.due_at = min(limits.due_at, at + allowance.seconds_until_more)
        return rows, bundles

    def _find_own(self, limiter: str, rate: Rate) -> list[Bundle]:
        """Return the bundles of this process that may still count, and note how long such tasks usually take."""
        found = self._bundles.pop(limiter, [])
        for bundle in found:
            if bundle.ended_at is not None:
                self._usual[limiter] = bundle.ended_at - bundle.began_at
        own = [bundle for bundle in found if not bundle.is_over(rate)]
        if own:
            self._bundles[limiter] = own
        return own

    def _leave_newer(self, wanted: Wanted) -> Wanted:
        return replace(wanted, not_versions=tuple(self._newer)) if self._newer else wanted

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
        number, name, args, kwargs, attempt, *options, key, unique_for, transitions, checkpoint = row[:-4]
        cancel, fingerprint, release, _ = row[-4:]
        runner = self._runner
        task = runner.registry.functions[name]
        entry = (Status.RUNNING, at, attempt, "claimed")
        # A record that was fired here goes on as itself, so that its handle sees how it ends.
        record = runner.registry.handed_over.pop(number, None)
        if record is None:
            record = Record(number, name, task, (), {}, loop, Context(), entry)
        try:
            prior = _load(transitions)
            on_lost, stuck_after, max_attempts, overrides = options
            task = task.restored(_load(overrides) or {}, on_lost, stuck_after, max_attempts)
            record.start_claimed(task, prior if isinstance(prior, list) else [], entry, loop)
            record.fired_with = fingerprint, release
            record.args, record.kwargs, record.unfit = _prepare_arguments(task, args, kwargs, fingerprint)
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
