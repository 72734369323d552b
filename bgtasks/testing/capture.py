"""
Capture: what firing does in tests. The runner checks everything as ever, and remembers the task instead of running it.

It has no thread, no connection, no row and no loop. `bgtasks.testing` is what tests see of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any, cast
from weakref import WeakKeyDictionary

from asgiref.sync import AsyncToSync, SyncToAsync, sync_to_async
from django.db import transaction

from ..conf import Settings
from ..definition import Task, arguments
from ..definition.sensitive import hide
from ..journal.journal import Journal
from ..process.drain_report import DrainReport
from ..process.record import Record
from ..process.registry import Registry
from ..runtime import attempt
from ..runtime.handle import TaskHandle
from ..runtime.lanes import Lane, Lanes
from ..runtime.loops import Loops
from ..runtime.outbox import AtCommit, Outbox
from ..runtime.runner import CoroutineFunction, Runner
from ..status import Status

NOT_RUN = (
    "Task %s was captured, as all tasks are in tests, and nothing has run it. Call run_fired() or `await arun_fired()` "
    "of bgtasks.testing first; or use live mode, where tasks run by themselves."
)

NO_LOOP = cast(asyncio.AbstractEventLoop, object())  # What captured tasks run on until they are run.


class FiredTask:
    """One thing that was fired in a test, and what has become of it."""

    def __init__(self, runner: CapturingRunner, record: Record, function: Task[..., Any] | None) -> None:
        self.task = record.task  # None for a coroutine function and a coroutine object.
        self.name = record.name
        self.args = record.args  # As the task gets them: as JSON gives them back.
        self.kwargs = record.kwargs
        self.handle: TaskHandle[Any] = TaskHandle(runner, record)
        self._function = function
        self._runner = runner
        self._record = record

    @cached_property
    def arguments(self) -> dict[str, Any]:
        """The arguments by the names of their parameters, with defaults. Empty for a coroutine object."""
        return {} if self._function is None else bind(self._function, self.args, self.kwargs, with_defaults=True)

    @property
    def status(self) -> Status:
        return self._record.status

    @property
    def error(self) -> BaseException | None:
        """What the task raised."""
        return self._record.error

    def __repr__(self) -> str:
        return f"<FiredTask {self} {self.status}>"

    def __str__(self) -> str:
        if self._function is None:
            return f"{self.name} (a coroutine object)"
        args, kwargs = hide(self._function.sensitive, self._function.signature, self.args, self.kwargs)
        shown = bind(self._function, tuple(args), kwargs, with_defaults=True)
        return f"{self.name}({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


# All that the test has fired, in order, from whichever thread: each operation on a dictionary is atomic.
captured: dict[int, FiredTask] = {}


def is_waiting(item: FiredTask) -> bool:
    """Tell whether nothing has run it yet."""
    return item._record.is_live and item._record.status is Status.READY


async def run(item: FiredTask, surroundings: Surroundings) -> bool:
    """Run it, if nobody else has begun to; tell whether it was run."""
    if not (is_waiting(item) and item._record.take()):
        return False
    await item._runner.run(item._record, surroundings)
    return True


def forget(item: FiredTask) -> None:
    """Let go of it; if it is being run, it goes on."""
    captured.pop(item._record.number, None)
    if item._record.take():
        item._record.forget_coroutine()
        item._runner.registry.live.pop(item._record.number, None)


def bind(task: Task[..., Any], args: arguments.Args, kwargs: arguments.Kwargs, with_defaults: bool) -> dict[str, Any]:
    """
    Return arguments by the names of their parameters; without defaults some may be missing.

    Raises:
        TypeError: they do not fit the function.
    """
    signature = task.signature
    bound = signature.bind(*args, **kwargs) if with_defaults else signature.bind_partial(*args, **kwargs)
    if with_defaults:
        bound.apply_defaults()
    found = dict(bound.arguments)
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            found.update(found.pop(parameter.name, {}))
        elif parameter.kind is parameter.VAR_POSITIONAL and not found.get(parameter.name):
            found.pop(parameter.name, None)
    return found


class CapturingRunner(Runner):
    """Checks what is fired, and keeps it in `captured`."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        journal = Journal(settings, registry)
        journal.is_stopped = True  # From its beginning: it never starts its thread.
        super().__init__(settings, registry, journal, _NoLanes())
        self.isolated_lanes = self.lanes
        self.loops = _NoLoops()
        self._outbox = _CapturingOutbox(self)
        self._functions: WeakKeyDictionary[Record, Task[..., Any]] = WeakKeyDictionary()

    def admit(self, record: Record) -> None:
        if record.task is not None:
            record.forget_coroutine()  # It is called anew when it is run: none is left behind if it never is.
        record.hold()
        self.registry.live[record.number] = record
        captured[record.number] = FiredTask(self, record, record.task or self._functions.get(record))

    async def _record_first(self, record: Record) -> TaskHandle[Any]:
        self.admit(record)
        return TaskHandle(self, record)

    def _make_for_function(self, function: CoroutineFunction, args: arguments.Args, kwargs: arguments.Kwargs) -> Record:
        record = super()._make_for_function(function, args, kwargs)
        self._functions[record] = Task(function)
        return record

    def roll_back(self, record: Record) -> None:
        captured.pop(record.number, None)
        self.registry.live.pop(record.number, None)

    # Running.

    async def run(self, record: Record, surroundings: Surroundings) -> None:
        """Carry out a record whose token was taken, as the caller would call it: on its loop and its connections."""
        record.loop = asyncio.get_running_loop()
        record.forget_attempt()
        record.history.append((Status.RUNNING, time.time(), record.attempt + 1, "run by the test"))
        if record.task is not None and not record.task.is_async:
            record.coroutine = _call_in_callers_thread(record, record.task.func)
        record.context.run(surroundings.adopt)
        self._start(record)
        task = record.asyncio_task
        assert task is not None  # Just started.
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait({task})
            raise

    def _free_slot(self, record: Record) -> None:
        pass  # A test runs one after the other, and takes none.

    def _hand_back(self, record: Record, why: str) -> None:
        record.history.append((Status.INTERRUPTED, time.time(), record.attempt, why))  # There is no other process.
        self._let_go(record)
        record.wake_waiters()

    def _try_again(self, record: Record, why: str) -> None:
        record.history.append((Status.READY, time.time(), record.attempt, why))  # And is run at once: a test waits not.
        record.hold()

    # Asking.

    def watch(self, record: Record) -> None:
        if record.status is Status.READY:
            raise RuntimeError(NOT_RUN % record.name)

    async def drain(self, asked_by: str, deadline: float) -> DrainReport:
        """Nothing runs, so nothing is drained; and the next test fires as this one did."""
        return DrainReport(asked_by, time.time(), running_at_start=0, is_written=True)


async def _call_in_callers_thread(record: Record, function: Callable[..., Any]) -> Any:
    value, error = await sync_to_async(attempt.call_in_thread)(record, function)
    if error is not None:
        raise error
    return value


class Surroundings:
    """
    Where asgiref carries out the thread-sensitive calls of whoever makes this.

    A task that takes them over makes its ORM calls where its caller makes them, so on the same connection and in the
    same transaction. What was there when it was fired may be over: the thread of a request.
    """

    def __init__(self) -> None:
        self._executor = getattr(AsyncToSync.executors, "current", None)
        self._context = SyncToAsync.thread_sensitive_context.get(None)
        self._is_nested = SyncToAsync.deadlock_context.get(False)

    def adopt(self) -> None:
        AsyncToSync.executors.current = self._executor
        SyncToAsync.thread_sensitive_context.set(self._context)  # type: ignore[arg-type]  # None as if there were none.
        SyncToAsync.deadlock_context.set(self._is_nested)


class _CapturingOutbox(Outbox):
    """Captures at once what is fired in a transaction, for a test's own transaction is never committed."""

    def __init__(self, runner: CapturingRunner) -> None:
        self._capturing = runner

    def fire(self, record: Record, alias: str) -> None:
        self._capturing.admit(record)
        transaction.on_commit(_UnlessRolledBack(record, self._capturing), using=alias, robust=True)


class _UnlessRolledBack(AtCommit):
    def __init__(self, record: Record, runner: CapturingRunner) -> None:
        super().__init__(record, lambda record: None)
        self._runner = runner

    def __del__(self) -> None:
        if self._record is not None:
            self._runner.roll_back(self._record)
        super().__del__()


class _NoLoops(Loops):
    def pick(self) -> asyncio.AbstractEventLoop:
        return NO_LOOP

    def register_home(self, loop: asyncio.AbstractEventLoop) -> None:
        pass


class _CallersLane(Lane):
    def __init__(self) -> None:
        self.leases = []

    def enter(self) -> None:
        pass  # The task has its caller's `Surroundings`.


class _NoLanes(Lanes):
    def __init__(self) -> None:
        super().__init__(0)

    def lease(self) -> Lane:
        return _CallersLane()

    def release(self, lane: Lane) -> None:
        pass
