"""The claimer: claims READY rows for the free slots of this process."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Sequence
from contextvars import Context
from dataclasses import replace
from typing import Any

from django.db import router, transaction
from django.db.backends.utils import CursorWrapper
from django.utils import timezone

from ..conf import Settings
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
from ..process.record import Entry, Record
from ..process.registry import Registry
from ..process.state import ProcessState
from ..runtime.backlog import Backlog
from ..runtime.commits import Commits
from ..runtime.limits import Group, Limits
from ..runtime.loops import Loops
from ..runtime.slots import Slots
from ..status import Status

NEWER = "Task %s: this process has its version %s and leaves rows of version %s to processes with newer code."

MAX_RATE_KEYS = 100  # Of one function in one claim.
LOCKED_AGAIN = 0.05  # Seconds until the next try, when another process has locked the row of a rate.


class Claimer:
    """
    Claims while slots are free: at once if rows are known to wait, otherwise every POLL_INTERVAL.

    Rows with limits of their own are claimed separately, as many as the limits have room for: see `Limits.groups`.
    """

    def __init__(
        self,
        settings: Settings,
        state: ProcessState,
        registry: Registry,
        slots: Slots,
        limits: Limits,
        backlog: Backlog,
        loops: Loops,
        commits: Commits,
    ) -> None:
        self._settings = settings
        self._state = state
        self._registry = registry
        self._slots = slots
        self._limits = limits
        self._backlog = backlog
        self._loops = loops
        self._commits = commits
        self._next = 0.0
        self._bundles: dict[str, list[Bundle]] = {}  # By limiter, the bundles that may still count.
        self._usual: dict[str, float] = {}  # By limiter, the seconds that its last bundle took.
        # The names of functions, with the fingerprints of versions that are newer than this code. Such rows come in
        # the middle of a deploy, and are left to processes that have the newer code.
        self._newer: set[tuple[str, str]] = set()

    def seconds_until_due(self, now: float) -> float:
        if not self._state.may_start:
            return self._settings.poll_interval
        if self._slots and self._backlog.may_have_come():
            return 0.0
        until_moment = self._backlog.seconds_until(time.time())
        if self._state.is_server or self._backlog.has_rows:
            return max(min(self._next - now, until_moment), 0.0)
        return min(self._settings.poll_interval, until_moment)

    def run_once(self, now: float) -> None:
        self._next = now + self._settings.poll_interval
        self._backlog.note_moments(time.time())
        if not self._slots or not self._state.may_start:
            return
        expected = self._backlog.take()
        is_left = False
        for group in self._limits.groups(self._state.queues):
            is_expected = expected.has_limited if group.is_limited else expected.has_rows
            if is_expected or self._is_any_ready(group.wanted):
                is_full = self._claim_for(group)
                is_left = is_left or (is_full and not group.is_limited)
        self._backlog.settle(expected, is_left)

    def is_anything_ready(self) -> bool:
        """Return whether this process could claim any row now. From the journal's thread."""
        return any(self._is_any_ready(group.wanted) for group in self._limits.groups(self._state.queues))

    def _is_any_ready(self, wanted: Wanted) -> bool:
        """
        Return whether any of the wanted rows is READY.

        A claim that finds no rows would still take SQLite's write lock, at each poll.
        """
        rows = BackgroundTask.objects.using(router.db_for_write(BackgroundTask)).ready(timezone.now())
        # With the order of the index: without an order PostgreSQL may read the whole table for the first row.
        return bool(self._leave_newer(wanted).choose(rows).order_by("-priority", "id").values_list("pk")[:1])

    def _claim_for(self, group: Group) -> bool:
        """Claim rows for the free slots, within the limits of a group; return whether each slot got a row."""
        taken = 0
        while self._slots.take():
            if not self._limits.take(group.gates):
                self._slots.give_back()
                break
            taken += 1
        used = 0
        try:
            if taken:
                records = self._claim(group, taken)
                used = len(records)
                for record in records:
                    self._registry.live[record.number] = record
                if records:
                    records[0].loop.call_soon_threadsafe(self._commits.start_claimed, records)
        finally:
            for _ in range(taken - used):
                for gate in group.gates:
                    gate.give_back()
            self._slots.give_back(taken - used)
        is_full = used == taken
        for gate in group.gates:
            gate.is_wanted = is_full
        return is_full

    def _claim(self, group: Group, count: int) -> list[Record]:
        alias = router.db_for_write(BackgroundTask)
        statements = statements_for(alias, self._state.id, self._settings.release)
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
                    transaction.set_rollback(True, using=alias)  # The rows stay READY.
                elif uncounted := statements.count_claimed(cursor, rows):
                    statements.count_fired(cursor, uncounted)
            if is_ours:
                break
        loop = self._loops.find_main() or self._loops.start_bridge()
        records = [self._make_record(row, at, loop) for row in rows]
        for index, record in enumerate(records):
            record.gates = (*group.gates, *bundles[index : index + 1])
        for bundle in dict.fromkeys(bundles):
            self._bundles.setdefault(bundle.limiter, []).append(bundle)
        announce_all([(record, record.history) for record in records], self._state.id)
        return records

    def _claim_by_rate(
        self, statements: Statements, cursor: CursorWrapper, group: Group, rate: Rate, count: int, at: float
    ) -> tuple[list[Row], list[Bundle]]:
        """Claim as many rows of each rate key as the rate allows now; return them, and the bundle of each row."""
        wanted = self._leave_newer(group.wanted)
        ready = wanted.choose(BackgroundTask.objects.using(statements.alias).ready(timezone.now()))
        keys = sorted(set(ready.order_by().values_list("rate_key", flat=True).distinct()[:MAX_RATE_KEYS]))
        function = self._registry.functions[wanted.names[0]].name
        rows: list[Row] = []
        bundles: list[Bundle] = []
        for key in keys:
            name = f"key {key}" if key else f"function {function}"
            if not try_to_lock(statements.alias, name):
                self._backlog.expect_limited_at(at + LOCKED_AGAIN)
                continue
            own = self._find_own(name, rate)
            allowance = Allowance(statements.alias, name, rate, statements.now(cursor), own, self._usual.get(name))
            most = min(count - len(rows), allowance.count)
            found = statements.claim(cursor, replace(wanted, rate_key=key), most, at) if most else []
            bundle = allowance.use(len(found))
            rows += found
            bundles += [bundle] * len(found)
            if len(found) == allowance.count:  # More rows may wait.
                self._backlog.expect_limited_at(at + allowance.seconds_until_more)
        return rows, bundles

    def _find_own(self, limiter: str, rate: Rate) -> list[Bundle]:
        """Return the bundles of this process that may still count; note the duration of those that have ended."""
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
        """Note the versions of claimed rows that are newer than this code; return whether there are any."""
        functions = self._registry.functions
        is_any_newer = False
        for _, name, *_, fingerprint, _, _ in rows:
            version = version_of(fingerprint)
            task = functions.get(name)  # None: MariaDB finds names without regard to upper and lower case.
            if task is not None and version > task.options.version:
                is_any_newer = True
                if all(name != noted for noted, _ in self._newer):  # It is logged once for each name.
                    log(logging.WARNING, NEWER, name, task.options.version, version)
                self._newer.add((name, fingerprint))
        return is_any_newer

    def _make_record(self, row: Row, at: float, loop: asyncio.AbstractEventLoop) -> Record:
        number, name, _, _, attempt, *_ = row
        task = self._registry.functions[name]
        entry = (Status.RUNNING, at, attempt, "claimed")
        # A task that was fired here keeps its record, so that its handle sees the end.
        record = self._registry.handed_over.pop(number, None)
        if record is None:
            record = Record(number, name, task, (), {}, loop, Context(), entry)
        try:
            _restore(record, row, task, entry, loop)
        except Exception as error:  # noqa: BLE001, RUF100  # The row may be forged; the others are claimed too.
            record.start_claimed(task, [], entry, loop)
            record.unfit = f"the row cannot be read: {type(error).__name__}: {error}"
        return record


def _restore(record: Record, row: Row, task: Task[..., Any], entry: Entry, loop: asyncio.AbstractEventLoop) -> None:
    """Make a record the attempt that was claimed in a row."""
    _, _, args, kwargs, _, *options, key, unique_for, transitions, checkpoint = row[:-4]
    cancel, fingerprint, release, _ = row[-4:]
    prior = _load(transitions)
    on_lost, stuck_after, max_attempts, overrides = options
    task = task.restored(_load(overrides) or {}, on_lost, stuck_after, max_attempts)
    record.start_claimed(task, prior if isinstance(prior, list) else [], entry, loop)
    record.fired_with = fingerprint, release
    record.args, record.kwargs, record.unfit = _prepare_arguments(task, args, kwargs, fingerprint)
    if cancel is not None:
        record.cancel_reason = "asked"  # The request came while the last attempt ended.
    if record.extras is not None:
        record.extras.run_after = None  # Its moment has come.
    if key or checkpoint is not None:
        record.extras = record.extras or Extras()
        record.extras.key, record.extras.unique_for = key, unique_for
    if checkpoint is not None:
        assert record.extras is not None  # Just made.
        record.extras.checkpoint = checkpoint if isinstance(checkpoint, str) else json.dumps(checkpoint)


def _load(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str | bytes) else value


def _prepare_arguments(
    task: Task[..., Any], args: Any, kwargs: Any, fingerprint: str
) -> tuple[tuple[Any, ...], dict[str, Any], str]:
    """Return the arguments of a row as the function takes them, and their fault, or "": the row may be forged."""
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
