"""
The runner: admits, bounds, starts, cancels and drains tasks. It never touches the database.

A task that finds a free slot starts at once. One that does not waits as READY in the table, for any process; only
coroutine objects, which nobody else can run, wait here. See `Record.take` for who decides between the two.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any
from uuid import UUID

from ..conf import Settings
from ..definition import Task, arguments
from ..definition.sensitive import seal
from ..definition.versions import describe_misfit
from ..exceptions import Draining, KeyConflict, NotRecorded, Overloaded, RecordUnknown, TaskNotFound
from ..failure import Failure, storable
from ..journal.journal import Journal
from ..log import log
from ..process.caller_context import copy_context
from ..process.drain_report import DrainReport
from ..process.extras import Extras
from ..process.locale import Locale
from ..process.machine import is_server
from ..process.record import NO_CONTEXT, Record
from ..process.registry import Registry
from ..status import Status
from ..uuid7 import uuid7_int
from . import attempt
from .context import is_inside_live_task, scope_variable
from .drainer import Drainer
from .due import Due
from .expiry import Expiry, settle, settle_all
from .handle import TaskHandle
from .lanes import DaemonExecutor, IsolatedLanes, Lanes
from .limits import Limits
from .lookup import afind, find
from .loops import Loops
from .outbox import Outbox, find_transaction
from .slots import Slots

Args = arguments.Args
Kwargs = arguments.Kwargs
CoroutineFunction = Callable[..., Coroutine[Any, Any, Any]]

READY = Status.READY  # Looking a member up on its class takes longer than the rest of a comparison.
RUNNING = Status.RUNNING
INTERRUPTED = Status.INTERRUPTED

LONGEST_STOP = 2.0  # Seconds.
TAKEN = "its process was taken for dead"


async def _nothing() -> None:
    pass


class Runner:
    """Carries out the tasks of one process, each on the loop that `Loops` picked for it."""

    def __init__(self, settings: Settings, registry: Registry, journal: Journal, lanes: Lanes) -> None:
        self.settings = settings
        self.registry = registry
        self.journal = journal
        self.lanes = lanes
        self.isolated_lanes: Lanes = IsolatedLanes(settings.max_isolated)
        self.limits = Limits(settings, registry.functions)
        self.loops = Loops()
        self.threads = DaemonExecutor("bgtasks-sync", threads=settings.sync_threads)
        self.draining = False
        # Whether READY rows wait in the table: then what is fired goes behind them, or they might wait for ever.
        self.has_backlog = False
        self.due = Due()
        self.slots = Slots(settings.max_running, self._may_start_waiting, self._start_waiting)
        self._outbox = Outbox(self)
        self._expiries: dict[asyncio.AbstractEventLoop, Expiry] = {}  # Of the loops on which somebody waits in `afire`.
        self._drain: asyncio.Task[DrainReport] | None = None
        self.drainer: Drainer | None = None
        self.ended_count = 0
        # Longer strings take the way that measures them, so that the plain ones cannot exceed MAX_ARGS_BYTES together.
        self._max_plain_length = min(1000, settings.max_args_bytes // (8 * arguments.MAX_PLAIN_COUNT))
        # Whether rows that other processes left READY are claimed here: by a server, not by a command that ends soon.
        self.claims_for_others = is_server()
        self.queues: tuple[str, ...] = ()  # Only rows of these are claimed. Empty: of all.
        self.on_awaited: Callable[[Record], None] = lambda record: None  # From any thread.
        self.on_drained: Callable[[], Coroutine[Any, Any, None]] = _nothing
        self.on_shut_down: Callable[[], None] = lambda: None
        journal.find_loop = self.loops.find_main
        journal.on_handed_over = self._handed_over
        journal.on_ready_again = self._ready_again
        journal.on_committed = self._committed
        journal.on_conflict = self._conflicted
        journal.on_taken = self._taken

    # Firing.

    def fire_task(self, task: Task[..., Any], args: Args, kwargs: Kwargs) -> TaskHandle[Any]:
        """Fire a task function. The hot path: no I/O, no await, no lock that anybody holds for long."""
        record = self._make(task.name, task, args, kwargs)
        if record.locale is None:  # Fired on its own loop: there is no transaction.
            self.admit(record)
        else:
            self._admit_from_outside(record, task.fire_on_commit)
        return TaskHandle(self, record)

    def fire_function(self, function: CoroutineFunction, args: Args, kwargs: Kwargs) -> TaskHandle[Any]:
        """Fire a coroutine function that is no task function: recorded with its arguments, but not run again."""
        return self._fire_here(self._make_for_function(function, args, kwargs))

    def fire_coroutine(self, coroutine: Coroutine[Any, Any, Any], name: str) -> TaskHandle[Any]:
        return self._fire_here(self._make_for_coroutine(coroutine, name))

    async def afire_task(self, task: Task[..., Any], args: Args, kwargs: Kwargs) -> TaskHandle[Any]:
        return await self._record_first(self._make(task.name, task, args, kwargs))

    async def afire_function(self, function: CoroutineFunction, args: Args, kwargs: Kwargs) -> TaskHandle[Any]:
        return await self._record_first(self._make_for_function(function, args, kwargs))

    async def afire_coroutine(self, coroutine: Coroutine[Any, Any, Any], name: str) -> TaskHandle[Any]:
        return await self._record_first(self._make_for_coroutine(coroutine, name))

    def _fire_here(self, record: Record) -> TaskHandle[Any]:
        try:
            if record.locale is None:
                self.admit(record)
            else:
                self._admit_from_outside(record, None)
        except BaseException:
            record.forget_coroutine()
            raise
        return TaskHandle(self, record)

    def _admit_from_outside(self, record: Record, fire_on_commit: bool | None) -> None:
        """Admit what is fired by another thread than its loop's: that code may have a transaction open."""
        if fire_on_commit is None:
            fire_on_commit = self.settings.fire_on_commit
        if fire_on_commit and asyncio._get_running_loop() is None:  # Async code has no transaction of its own.
            alias = find_transaction()
            if alias is not None:
                if record.task is None and (self.draining or self.held):
                    self._may_start(record)  # Refuses it now: at the commit nobody would hear of it.
                self._outbox.fire(record, alias)
                return
        self.admit(record)

    def _make(self, name: str, task: Task[..., Any], args: Args, kwargs: Kwargs) -> Record:
        encoded = None
        if not arguments.are_plain(args, kwargs, self._max_plain_length):
            encoded, args, kwargs = self._encode(task, args, kwargs)
        if task.sensitive:
            sealed_args, sealed_kwargs = seal(task.sensitive, task.signature, args, kwargs)
            encoded, _, _ = self._encode(task, tuple(sealed_args), sealed_kwargs)
        record = self._new(name, task, args, kwargs)
        record.encoded = encoded
        if task.needs_extras:
            record.extras = Extras.of(task, record.history[0][1])
        if self.limits.max_waiting:
            self.limits.check_waiting(task.options.queue)
        try:
            record.bind()
        except TypeError as error:
            raise TypeError(f"Task {task.name!r} cannot take these arguments: {error}") from None
        return record

    def _make_for_function(self, function: CoroutineFunction, args: Args, kwargs: Kwargs) -> Record:
        task: Task[..., Any] = Task(function)
        record = self._make(task.name, task, args, kwargs)
        if record.coroutine is None:
            record.coroutine = attempt.call_later(function, record.args, record.kwargs)
        record.task = None
        return record

    def _make_for_coroutine(self, coroutine: Coroutine[Any, Any, Any], name: str) -> Record:
        try:
            record = self._new(name, None, (), {})
        except BaseException:
            coroutine.close()
            raise
        record.coroutine = coroutine
        return record

    def _new(self, name: str, task: Task[..., Any] | None, args: Args, kwargs: Kwargs) -> Record:
        if self.journal.is_away or self.draining:
            self._check_load()
        now = time.time_ns()
        running = asyncio._get_running_loop()
        loop = running if running is not None and running is self.loops.home else self.loops.pick()
        record = Record(uuid7_int(now), name, task, args, kwargs, loop, copy_context(), (READY, now / 1e9, 0, "fired"))
        if loop is not running:
            record.locale = Locale.of_caller()
        if (scope := scope_variable.get()) is not None:
            record.scope = scope
        return record

    def _encode(self, task: Task[..., Any], args: Args, kwargs: Kwargs) -> tuple[tuple[str, str], Args, Kwargs]:
        def name_of(index: int) -> str:
            names = list(task.signature.parameters)
            return names[index] if index < len(names) else f"number {index + 1}"

        try:
            encoded = arguments.encode(args, kwargs, self.settings.max_args_bytes, name_of)
        except (TypeError, ValueError) as error:
            raise type(error)(f"Task {task.name!r}: {error}") from None
        return encoded, tuple(arguments.decode(encoded[0])), arguments.decode(encoded[1])

    def _check_load(self) -> None:
        if self.journal.is_stopped:
            raise Draining("This process has drained and records nothing more.")
        unwritten = self.journal.count_unwritten()
        if unwritten < self.settings.max_unwritten:
            return
        if not self.journal.is_away:
            raise Draining(f"This process is draining, and {unwritten} records wait to be written: it takes no more.")
        raise Overloaded(
            f"The database does not take records and {unwritten} wait in memory (MAX_UNWRITTEN): nothing was "
            "stored, nothing was started.",
            retry_after=self.settings.heartbeat,
        )

    def admit(self, record: Record) -> None:
        """Start it or let it wait; the journal writes it."""
        if record.extras is not None and record.extras.key:
            self._admit_once_recorded(record)
        elif self._may_start(record) and self._take_slot(record):
            self.registry.live[record.number] = record
            record.history[0] = (RUNNING, record.history[0][1], 1, "fired")
            self._start_on_its_loop(record)
        else:
            record.hold()
            self.registry.live[record.number] = record
            if not self._has_to_queue_up(record):
                self.slots.queue(record)
            if self.limits.max_waiting and record.task is not None:
                self.limits.count_waiting(record.task.options.queue)
        self.journal.put(record)

    def _take_slot(self, record: Record) -> bool:
        """Take a free slot, and pass the limits of its function and its queue."""
        if not self.slots.take():
            return False
        task = record.task
        if task is None or not (task.is_limited or self.limits.has_queues):
            return True
        gates = self.limits.gates_of(task)
        if self.limits.enter(task, gates):
            record.gates = gates
            return True
        self.slots.give_back()
        return False

    def _may_start(self, record: Record) -> bool:
        if record.extras is not None and record.extras.run_after is not None:
            return False
        # As always, and soon told.
        if not (self.draining or self.slots.is_held or self.has_backlog or self.limits.has_pauses):
            return True
        if self.draining:
            if is_inside_live_task() and not (self.drainer is not None and self.drainer.is_cutting_short):
                return True  # What draining tasks fire is drained too.
            if record.task is None:
                raise Draining(
                    f"This process is draining: {record.name} is a coroutine object, which no other process can start."
                )
            return False
        if self.slots.is_held and record.task is None:
            raise Draining(
                f"This process was asked to start nothing: {record.name} is a coroutine object, which no other process "
                "can start."
            )
        return not self._has_to_queue_up(record)

    def _has_to_queue_up(self, record: Record) -> bool:
        """Tell whether it waits in the table, behind other rows or for other processes."""
        if record.task is None:
            return False
        if record.extras is not None and record.extras.run_after is not None:
            return True
        if self._is_limited(record.task) or self.limits.is_paused(record.task):
            return True
        # While the database is away nobody can claim what waits in it.
        return self.slots.is_held or (self.has_backlog and not self.journal.is_away)

    def _admit_once_recorded(self, record: Record) -> None:
        """Start it only once its row is committed."""
        try:
            has_slot = self._may_start(record) and self._take_slot(record)
        except BaseException:
            record.forget_coroutine()
            raise
        if has_slot:
            record.history[0] = (RUNNING, record.history[0][1], 1, "fired")
        elif self.limits.max_waiting and record.task is not None:
            self.limits.count_waiting(record.task.options.queue)
        record.is_recorded_first = True
        record.hold()
        self.registry.live[record.number] = record
        self.journal.put(record)

    def _is_limited(self, task: Task[..., Any]) -> bool:
        """Tell whether it has limits beside the number of slots: it does not wait in this process then."""
        return task.is_limited or (self.limits.has_queues and bool(self.limits.gates_of(task)))

    async def _meet(self, record: Record, conflict: KeyConflict) -> TaskHandle[Any]:
        """Return the task that has the key, or raise."""
        assert record.extras is not None  # It has a key.
        if record.extras.on_conflict != "existing":
            raise conflict
        try:
            return TaskHandle(self, await self.afind(conflict.id))
        except TaskNotFound:  # Deleted since.
            raise conflict from None

    async def _record_first(self, record: Record) -> TaskHandle[Any]:
        """Start it only once its row is committed, and return then."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bool] = loop.create_future()
        record.acknowledgement = answer
        self._admit_once_recorded(record)
        expiry = self._expiries.get(loop)
        if expiry is None:
            expiry = self._expiries[loop] = Expiry(loop, self.settings.write_timeout)
        expiry.watch(answer)
        try:
            is_committed = await answer
        finally:
            if not expiry.forget_answered() and self._expiries.get(loop) is expiry:
                del self._expiries[loop]  # It would keep the loop.
        if isinstance(record.refusal, KeyConflict):
            return await self._meet(record, record.refusal)
        if is_committed or record.written is not None:  # Stored all the same: a blocked loop let the answer wait.
            return TaskHandle(self, record)
        if not record.take():
            raise RecordUnknown(record.id)
        self._withdraw(record)
        raise NotRecorded(
            f"The database did not take {record.name} within {self.settings.write_timeout} s (WRITE_TIMEOUT): it "
            "is not stored and not started."
        )

    def _withdraw(self, record: Record) -> None:
        self.registry.live.pop(record.number, None)
        record.forget_coroutine()
        if record.status is RUNNING:
            self._free_slot(record)

    # Starting and ending.

    def _start_on_its_loop(self, record: Record) -> None:
        loop = record.loop
        if loop is asyncio._get_running_loop():
            self._start(record)
            return
        try:
            loop.call_soon_threadsafe(self._start, record, context=record.context)
        except RuntimeError:  # The loop was closed on the way.
            self.conclude(record, *attempt.LOOP_ENDED)
            self._free_slot(record)

    def _start_all_on(self, loop: asyncio.AbstractEventLoop, records: list[Record]) -> None:
        """Start them from another thread. One call for all: each writes to the loop's pipe, which costs 5 µs."""
        try:
            loop.call_soon_threadsafe(self._start_all, records)
        except RuntimeError:  # The loop was closed on the way.
            for record in records:
                self.conclude(record, *attempt.LOOP_ENDED)
                self._free_slot(record)

    def _start_all(self, records: list[Record]) -> None:
        for record in records:
            self._start(record)

    def _start(self, record: Record) -> None:
        # Built by hand: a task factory of the project's may be eager, and would run the body inside `fire`.
        name = record.task.loop_name if record.task is not None else record.name
        task = asyncio.Task(attempt.carry_out(self, record), loop=record.loop, name=name, context=record.context)
        record.asyncio_task = task
        # Taken away by its first step, since a callback at the end would cost each task another turn of the loop.
        record.when_never_begun = partial(self._never_began, record)
        task.add_done_callback(record.when_never_begun)
        if record.cancel_reason is not None:  # It was asked for while the start was on its way to the loop.
            task.cancel()

    def attempt_begins(self, record: Record) -> None:
        assert record.asyncio_task is not None and record.when_never_begun is not None  # noqa: PT018  # It was started.
        record.asyncio_task.remove_done_callback(record.when_never_begun)
        record.when_never_begun = None

    def _never_began(self, record: Record, task: asyncio.Task[None]) -> None:
        """One that was cancelled before its first step has run none of its code."""
        record.when_never_begun = None
        self.attempt_ended(record, attempt.cancelled_outcome(record))

    def attempt_ended(self, record: Record, outcome: attempt.Outcome) -> None:
        if self.registry.holds(record):
            record.asyncio_task = None
            self.conclude(record, *outcome)
            if outcome[0] is INTERRUPTED and self.drainer is not None:
                self.drainer.interrupted[record.name] += 1
            else:
                self.ended_count += 1
        else:
            # Its verdict was given while it ignored the cancellation: a late finish never overwrites.
            record.forget_coroutine()  # It may not even have begun.
            log(logging.WARNING, "Task %s (%s) ended after its verdict was given.", record.name, record.id)
        self._free_slot(record)

    def conclude(self, record: Record, status: Status, why: str) -> None:
        """Give a record what follows; the journal writes it."""
        if record.coroutine is not None:
            record.forget_coroutine()
        if status is READY:
            self._try_again(record, why)
            return
        if status is INTERRUPTED:
            if self.draining:  # Whoever cancelled it did so for the end of the process.
                record.cancel_reason = record.cancel_reason or "drain"
            if record.may_run_again:
                self._hand_back(record, why)
                return
        record.history.append((status, time.time(), record.attempt, why))
        self._let_go(record)
        record.wake_waiters()

    def _hand_back(self, record: Record, why: str) -> None:
        """
        Let any process start it again.

        A drain, or a claim that came to nothing, is not the task's doing: it gets the attempt back. A cancellation from
        elsewhere may be, so that one counts, or such a task could begin again for ever.
        """
        is_ours = record.cancel_reason == "drain" or not record.is_started
        attempts = max(record.attempt - 1, 0) if is_ours else record.attempt
        self._leave_to_anyone(record, attempts, why)

    def _try_again(self, record: Record, why: str) -> None:
        """Let any process make the next attempt, after what `Extras.run_after` says."""
        self._leave_to_anyone(record, record.attempt, why)

    def _leave_to_anyone(self, record: Record, attempts: int, why: str) -> None:
        self.registry.handed_over[record.number] = record
        self._forget(record)
        if record.waiters:
            self.registry.awaited[record.number] = record  # Another process may come to run it.
        # Last: from here on the journal may write it, and claim it again, while this thread stands still.
        record.history.append((READY, time.time(), attempts, why))
        self._write_end(record)

    def _let_go(self, record: Record) -> None:
        self._forget(record)
        self._write_end(record)

    def _forget(self, record: Record) -> None:
        self.registry.live.pop(record.number, None)
        record.context = NO_CONTEXT  # It holds the record in turn, and what the request left in it.

    def _write_end(self, record: Record) -> None:
        self.journal.put_again(record)
        if self.drainer is not None:
            self.drainer.look_again()

    def _free_slot(self, record: Record) -> None:
        """Hand a slot to the next that waits here, or leave it to whoever comes."""
        if record.gates:
            gates, record.gates = record.gates, ()
            self.limits.leave(gates)
        self.slots.give_back()
        if (self.has_backlog or self.limits.is_due) and self.slots and not self.slots.is_held:
            self.journal.wake()

    def _may_start_waiting(self, record: Record) -> bool:
        """Tell whether a record that waits may start here: a draining process leaves what others can start to them."""
        return not (record.task is not None and (self.draining or self.limits.is_paused(record.task)))

    def _start_waiting(self, record: Record) -> None:
        record.history.append((RUNNING, time.time(), 1, "a slot became free"))
        self.journal.put_again(record)
        self._start_on_its_loop(record)

    # What the journal reports, from its thread.

    def _handed_over(self, records: list[Record]) -> None:
        """These are written as READY: from now on any process may start them."""
        for record in records:
            record.forget_coroutine()
            self.registry.handed_over[record.number] = record
            self.registry.live.pop(record.number, None)
            if record.cancel_reason is not None:
                self.journal.cancel_ready(record)
            self.expect(record)
        if self.drainer is not None:
            self.drainer.look_again()

    def expect(self, record: Record) -> None:
        """Claim soon what this process has written as READY, or when its moment has come."""
        if record.extras is not None and record.extras.run_after is not None:
            self.due.add(record.extras.run_after)
        elif record.task is not None and self._is_limited(record.task):
            self.limits.is_due = True
        else:
            self.has_backlog = True

    def _ready_again(self, records: list[Record]) -> None:
        """The rows of these are READY again: not before can they be claimed."""
        for record in records:
            self.expect(record)

    def _conflicted(self, record: Record, holder: UUID) -> None:
        """Another task has its key: it was not fired."""
        assert record.extras is not None  # It has a key.
        has_slot = record.status is RUNNING
        self.registry.live.pop(record.number, None)
        self.registry.handed_over.pop(record.number, None)
        record.refuse(KeyConflict(record.extras.key, holder))
        if has_slot:
            self._free_slot(record)  # Before the answer: who fires another one then finds it.
        answer, record.acknowledgement = record.acknowledgement, None
        if answer is not None:
            with contextlib.suppress(RuntimeError):  # The loop of the caller may be closed by now.
                answer.get_loop().call_soon_threadsafe(settle, answer, False)
        if self.drainer is not None:
            self.drainer.look_again()

    def _committed(self, records: list[Record]) -> None:
        """The first write of these, which `afire` waits for, is committed: start them and answer."""
        answers: dict[asyncio.AbstractEventLoop, list[asyncio.Future[bool]]] = {}
        starts: dict[asyncio.AbstractEventLoop, list[Record]] = {}
        for record in records:
            answer, record.acknowledgement = record.acknowledgement, None
            if answer is not None:
                answers.setdefault(answer.get_loop(), []).append(answer)
            if record.status is RUNNING and not record.is_started:
                starts.setdefault(record.loop, []).append(record)
            elif record.status is READY and record.task is None:
                record.hold()
                self.slots.queue(record)
        for loop, answered in answers.items():
            with contextlib.suppress(RuntimeError):  # The loop of the callers may be closed by now.
                loop.call_soon_threadsafe(settle_all, answered)
        for loop, started in starts.items():
            self._start_all_on(loop, started)

    def _taken(self, record: Record, status: Status) -> None:
        """
        Others took this process for dead: the row of this record has its verdict, `status`, or is anybody's again.

        What it still does here is cancelled and counts no more. From the journal's thread.
        """
        record.is_taken = True
        was_running = record.status is RUNNING
        self.registry.live.pop(record.number, None)
        record.take()  # It may still wait here for a slot.
        if status.is_finished:
            record.reason = TAKEN
            record.history.append((status, time.time(), record.attempt, TAKEN))
            record.wake_waiters()
        else:
            record.history.append((READY, time.time(), record.attempt, TAKEN))  # What still runs is the old attempt.
            # Who waits for it looks at the row. Should this process claim that, it makes another record: this one has
            # yet to end here.
            if record.waiters:
                self.registry.awaited[record.number] = record
        if was_running and record.is_recorded_first:  # It is never started, and nothing else frees its slot.
            record.forget_coroutine()
            self._free_slot(record)
        elif was_running:
            self.interrupt(record, "taken")
        else:
            record.forget_coroutine()
        if self.drainer is not None:
            self.drainer.look_again()

    # Claims.

    def start_claimed(self, records: Iterable[Record]) -> None:
        """Start rows that this process has claimed, each live and in a slot that was reserved for it."""
        for record in records:
            if self.draining:
                # Claimed while the drain began: others take it, as if nobody had claimed it.
                self._hand_back(record, "given back by a draining process")
                self._free_slot(record)
                continue
            if record.cancel_reason is not None:
                self.conclude(record, *attempt.ASKED_FOR)
                self._free_slot(record)
                continue
            try:
                record.bind()
            except TypeError as error:
                self._fail_unfit(record, error)
                self._free_slot(record)
            else:
                self._start_on_its_loop(record)

    def _fail_unfit(self, record: Record, error: TypeError) -> None:
        task = record.task
        assert task is not None  # It was claimed.
        told, why = str(error), "its arguments cannot be used"
        if not record.unfit:
            fired_with, release = record.fired_with
            difference = describe_misfit(
                task.signature, record.args, record.kwargs, fired_with, task.signature_fingerprint, release
            )
            told, why = f"{told}. {difference}", "its arguments no longer fit the function"
        told = storable(told)
        record.failure = Failure("TypeError", told, "", "")
        self.conclude(record, Status.FAILED, f"{why}: {told}")

    # Asking and watching.

    def watch(self, record: Record) -> None:
        """Somebody waits for the record: look at its row now and then, since another process may come to run it."""
        if record.status is READY or not self.registry.holds(record):
            self.registry.awaited[record.number] = record
            self.on_awaited(record)
            self.journal.start()  # A script may have fired nothing yet.
            self.journal.wake()

    def find(self, task_id: UUID) -> Record:
        """Find a task by its id, see `lookup.find`."""
        return find(self, task_id)

    async def afind(self, task_id: UUID) -> Record:
        return await afind(self, task_id)

    def check_may_block(self) -> None:
        """Raise RuntimeError in a thread that must not wait for a task: the task may need it."""
        if asyncio._get_running_loop() is not None:
            what = "it would stop the event loop"
        elif self.lanes.is_lane() or self.isolated_lanes.is_lane():
            what = "it would keep this database thread from the tasks that share it"
        elif self.journal.is_current_thread():
            what = "it would keep the journal from recording the end of the task"
        else:
            return
        raise RuntimeError(f"handle.result() cannot be called here: {what}. Use `await handle` in async code.")

    def cancel(self, record: Record) -> bool:
        if not record.is_live:
            return False
        if not self.registry.holds(record):  # Its row belongs to whichever process claims it.
            self.journal.cancel_ready(record)
            return True
        if record.status is READY and record.take():
            self.conclude(record, *attempt.ASKED_FOR)
            return True
        self.interrupt(record, "asked")
        if not self.registry.holds(record) and record.is_live:  # The journal has just handed it over.
            self.journal.cancel_ready(record)
        return True

    def interrupt(self, record: Record, reason: str) -> None:
        if record.cancel_reason is None or (record.cancel_reason, reason) == ("timeout", "asked"):
            record.cancel_reason = reason  # One that somebody asks for keeps what timed out from being tried again.
        task = record.asyncio_task
        if task is None:
            return  # It is on its way to its loop, and cancelled there.
        if task.get_loop() is asyncio._get_running_loop():
            self._cancel(record, task)
            return
        with contextlib.suppress(RuntimeError):  # The loop may be closed by now, and the task gone with it.
            task.get_loop().call_soon_threadsafe(self._cancel, record, task)

    def _cancel(self, record: Record, task: asyncio.Task[None]) -> None:
        task.cancel()
        task.get_loop().call_later(self.settings.cancel_grace, self._look_whether_ignored, record, task)

    def _look_whether_ignored(self, record: Record, task: asyncio.Task[None]) -> None:
        if task.done() or record.asyncio_task is not task or self.draining:
            return  # Of a drain the drainer tells.
        if record.ignores_since:
            return  # It was cancelled more than once.
        record.ignores_since = time.time() - self.settings.cancel_grace
        told = "Task %s (%s) ignores its cancellation: it still runs %.3g s after it (CANCEL_GRACE)."
        log(logging.WARNING, told, record.name, record.id, self.settings.cancel_grace)

    def note_progress(self, record: Record) -> None:
        """Have its progress written, at most every POLL_INTERVAL: a task may tell of each of a million steps."""
        extras = record.extras
        assert extras is not None  # It holds the progress.
        extras.version += 1
        if not extras.is_progress_due:
            extras.is_progress_due = True
            with contextlib.suppress(RuntimeError):  # The loop may be closed by now.
                record.loop.call_soon_threadsafe(self._plan_progress, record, extras)

    def _plan_progress(self, record: Record, extras: Extras) -> None:
        wait = extras.progress_written_at + self.settings.poll_interval - time.monotonic()
        record.loop.call_later(max(wait, 0.0), self._write_progress, record, extras)

    def _write_progress(self, record: Record, extras: Extras) -> None:
        extras.is_progress_due = False
        extras.progress_written_at = time.monotonic()
        if self.registry.holds(record):
            self.journal.put_again(record)

    # Pausing, holding and draining.

    def heed_pauses(self, functions: frozenset[str], queues: frozenset[str]) -> None:
        """Start nothing of these functions and queues from now on; let go on what is not among them any more."""
        if self.limits.pause(functions, queues):
            self.has_backlog = True  # What was fired meanwhile waits in the table.

    @property
    def held(self) -> bool:
        return self.slots.is_held

    def hold(self) -> None:
        """
        Start nothing more, until told otherwise: what is fired waits as READY, what runs goes on.

        Unlike a drain it has a way back. A start that is on its way when this is called still happens, see
        `has_recorded_its_starts`.
        """
        self.slots.is_held = self.journal.is_held = True

    def release_hold(self) -> None:
        self.slots.is_held = self.journal.is_held = False
        self.has_backlog = True  # What was fired meanwhile waits in the table.
        self.slots.match()  # Coroutine objects wait here, since nobody else can start them.
        self.journal.wake()

    @property
    def max_running(self) -> int:
        return self.slots.count

    def bound(self, max_running: int) -> None:
        """Have at most so many tasks run at once. Call before anything runs."""
        self.slots.resize(max_running)

    def has_recorded_its_starts(self) -> bool:
        """
        Tell whether every taken slot belongs to a task whose row says RUNNING. From the journal's thread.

        A start takes its slot before anything else, in whichever thread. So while the runner is held, the answer yes
        is final: no start is on its way any more.
        """
        recorded = sum(
            record.status is RUNNING and record.written is not None and record.written[0] is RUNNING
            for record in list(self.registry.live.values())
        )
        return len(self.slots) + recorded >= self.slots.count

    async def drain(self, asked_by: str, deadline: float) -> DrainReport:
        """
        Start nothing more, let the running tasks and what they fire finish, cut short the rest, write it all.

        A second call waits for the first.

        Args:
            deadline: when all of it has to be over, as `time.monotonic()` counts.
        """
        loop = self.loops.find_main()
        if loop is not None and loop is not asyncio.get_running_loop():
            # Not on a loop that may end with its caller.
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self.drain(asked_by, deadline), loop))
        if self._drain is None or self._drain.cancelled():
            self.draining = True
            if self.held:
                self.release_hold()
            self.drainer = Drainer(self)
            self._drain = asyncio.get_running_loop().create_task(self.drainer.drain(asked_by, deadline))
        return await asyncio.shield(self._drain)

    def drain_at_exit(self) -> None:
        """
        Drain while the interpreter exits, in its main thread: for a process that no server tells of its end.

        The server's loop, if there was one, has stopped with its tasks in it and is run once more.
        """
        settings = self.settings
        seconds = settings.drain_timeout + settings.cancel_grace + settings.flush_timeout
        draining = self.drain("the interpreter's exit", time.monotonic() + seconds)
        loop = self.loops.find_main() or self.loops.home
        if loop is None or loop.is_closed():
            loop = asyncio.new_event_loop()
        if loop.is_running():
            with contextlib.suppress(TimeoutError):
                asyncio.run_coroutine_threadsafe(draining, loop).result(seconds + 1)
        else:
            loop.run_until_complete(draining)

    def find_waiting_objects(self, count: int) -> list[Record]:
        """Return up to `count` of the coroutine objects that wait here for a slot."""
        found = (record for record in self.slots.waiting if record.task is None and record.is_live)
        return list(itertools.islice(found, count))

    def count_running(self) -> int:
        return sum(record.status is RUNNING for record in list(self.registry.live.values()))

    def shut_down(self, deadline: float | None = None) -> None:
        """
        End the threads and close their connections. Nothing can be fired afterwards.

        Args:
            deadline: until when to wait for threads that are stuck, as `time.monotonic()` counts. None: two seconds.
        """
        if deadline is None:
            deadline = time.monotonic() + LONGEST_STOP
        self.draining = True
        self.on_shut_down()
        self.lanes.shut_down()
        self.isolated_lanes.shut_down()
        self.threads.shutdown(wait=False)
        self.journal.stop(deadline)
        self.lanes.join(deadline)
        self.isolated_lanes.join(deadline)
        self.threads.join(deadline)
        self.loops.stop_bridge(deadline)
