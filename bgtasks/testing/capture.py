"""
Capture: the runtime of tests. It checks a fired task as the real one does, and keeps it instead of running it.

It has no thread, no connection, no row and no event loop of its own. Tests use it through `bgtasks.testing`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any
from uuid import UUID

from asgiref.sync import AsyncToSync, SyncToAsync, sync_to_async
from django.db import transaction

from ..conf import Settings
from ..definition import Task, arguments
from ..definition.sensitive import hide
from ..process.drain_report import DrainReport
from ..process.locale import Locale
from ..process.record import NO_CONTEXT, Record
from ..process.registry import Registry
from ..runtime import attempt
from ..runtime.firing import Firing
from ..runtime.handle import HandleOwner, TaskHandle
from ..runtime.lookup import afind, find
from ..runtime.outbox import AtCommit, find_transaction
from ..status import Status

NOT_RUN = (
    "Task %s was captured, as all tasks are in tests, and nothing has run it. Call run_fired() or `await arun_fired()` "
    "of bgtasks.testing first; or use live mode, where tasks run by themselves."
)


class FiredTask:
    """A task that a test has fired, and its outcome."""

    def __init__(self, owner: HandleOwner, registry: Registry, record: Record) -> None:
        self.task = record.task  # None for a coroutine function and a coroutine object.
        self.name = record.name
        self.args = record.args  # As the task gets them: as JSON gives them back.
        self.kwargs = record.kwargs
        self.handle: TaskHandle[Any] = TaskHandle(owner, record)
        self._function = record.task or record.function
        self._registry = registry
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
        """The exception that the task raised."""
        return self._record.error

    def __repr__(self) -> str:
        return f"<FiredTask {self} {self.status}>"

    def __str__(self) -> str:
        if self._function is None:
            return f"{self.name} (a coroutine object)"
        args, kwargs = hide(self._function.sensitive, self._function.signature, self.args, self.kwargs)
        shown = bind(self._function, tuple(args), kwargs, with_defaults=True)
        return f"{self.name}({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


# All tasks that the test has fired, in order, from any thread: each operation on a dictionary is atomic.
captured: dict[int, FiredTask] = {}


def is_waiting(item: FiredTask) -> bool:
    """Return whether nothing has run the task yet."""
    return item._record.is_live and item._record.status is Status.READY


async def run(item: FiredTask, surroundings: Surroundings) -> bool:
    """Run the task, unless other code has begun to; return whether it was run."""
    if not (is_waiting(item) and item._record.take()):
        return False
    await _run(item._record, TestExecutor(item._registry, surroundings))
    return True


def forget(item: FiredTask) -> None:
    """Drop the task; if it is running, it goes on."""
    captured.pop(item._record.number, None)
    if item._record.take():
        item._record.forget_coroutine()
        item._registry.live.pop(item._record.number, None)


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


class CapturingAdmission:
    """Keeps each new record in `captured`."""

    def __init__(self, settings: Settings, owner: HandleOwner, registry: Registry) -> None:
        self._settings = settings
        self._owner = owner
        self._registry = registry

    def admit(self, record: Record) -> None:
        """Keep a new record. A test's own transaction is never committed, so its tasks do not wait for that."""
        if record.task is not None:
            record.forget_coroutine()  # Each run calls the function anew; without a run no coroutine is left behind.
        record.locale = Locale.of_caller()  # The task may be run by another thread, or after a change of both.
        record.issue_token()
        self._registry.live[record.number] = record
        captured[record.number] = FiredTask(self._owner, self._registry, record)
        if asyncio._get_running_loop() is None and (alias := find_transaction(record, self._settings)) is not None:
            transaction.on_commit(_UnlessRolledBack(record, self._roll_back), using=alias, robust=True)

    async def record_first(self, record: Record) -> Record:
        self.admit(record)
        return record

    def _roll_back(self, record: Record) -> None:
        captured.pop(record.number, None)
        self._registry.live.pop(record.number, None)


class _UnlessRolledBack(AtCommit):
    """Forgets a record whose transaction is rolled back."""

    def __init__(self, record: Record, roll_back: Callable[[Record], None]) -> None:
        super().__init__(record, lambda record: None)
        self._roll_back = roll_back

    def __del__(self) -> None:
        if self._record is not None:
            self._roll_back(self._record)
        super().__del__()


class CapturingRuntime:
    """The runtime of a test process, see `api.Runtime`."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self.settings = settings
        self.registry = registry
        self.firing = Firing(settings.max_args_bytes)
        self.admission = CapturingAdmission(settings, self, registry)

    def find(self, task_id: UUID) -> Record:
        """Return the record of a task, see `lookup.find`."""
        return find(self.registry, task_id)

    async def afind(self, task_id: UUID) -> Record:
        return await afind(self.registry, task_id)

    def serve(self, loop: asyncio.AbstractEventLoop) -> None:
        """Ignore the event loop of a server: no task runs on it."""

    async def drain(self, asked_by: str, deadline: float) -> DrainReport:
        """Return the report of a drain of no tasks. The next test fires as this one did."""
        return DrainReport(asked_by, time.time(), running_at_start=0, is_written=True)

    # Handles.

    def watch(self, record: Record) -> None:
        """
        Check that an awaited task was run.

        Raises:
            RuntimeError: it was captured only, and would be awaited for ever.
        """
        if record.status is Status.READY:
            raise RuntimeError(NOT_RUN % record.name)

    def check_may_block(self) -> None:
        """
        Check that the current thread may wait for a task.

        Raises:
            RuntimeError: it runs an event loop.
        """
        if asyncio._get_running_loop() is not None:
            raise RuntimeError(
                "handle.result() cannot be called here: it would stop the event loop. Use `await handle` in async code."
            )

    def cancel(self, record: Record) -> bool:
        """Cancel a task; return False if it was finished already."""
        if not record.is_live:
            return False
        if record.status is Status.READY and record.take():
            _conclude(self.registry, record, *attempt.ASKED_FOR)
        else:
            _interrupt(record, "asked")
        return True


# Running.


class TestExecutor:
    """
    Carries out attempts as their caller would call the function: on its loop and its connections.

    It implements `attempt.Attempts` and writes no rows.
    """

    __test__ = False  # Not a test, whatever pytest makes of its name.

    is_draining = False
    max_result_bytes = 10**9  # Nothing is stored.

    def __init__(self, registry: Registry, surroundings: Surroundings) -> None:
        self._registry = registry
        self._surroundings = surroundings
        self.progress = self  # Progress is kept in the record only.

    def begin(self, record: Record) -> bool:
        return True

    def lease(self, record: Record) -> Surroundings:
        return self._surroundings

    async def call_plain(self, record: Record, function: Callable[..., Any]) -> attempt.Returned:
        """Call a plain `def` function in the caller's thread."""
        in_callers_thread = sync_to_async(attempt.call_in_thread)
        return await in_callers_thread(record, function)

    def interrupt(self, record: Record, reason: str) -> None:
        _interrupt(record, reason)

    def end(self, record: Record, outcome: attempt.Outcome) -> None:
        record.asyncio_task = None
        _conclude(self._registry, record, *outcome)

    def write_soon(self, record: Record) -> None:
        pass

    def write(self, record: Record) -> None:
        pass


async def _run(record: Record, executor: TestExecutor) -> None:
    """Carry out an attempt at a record whose token was taken."""
    record.loop = asyncio.get_running_loop()
    record.forget_attempt()
    record.history.append((Status.RUNNING, time.time(), record.attempt + 1, "run by the test"))
    name = record.task.loop_name if record.task is not None else record.name
    task = asyncio.Task(attempt.carry_out(executor, record), loop=record.loop, name=name, context=record.context)
    record.asyncio_task = task
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait({task})
        raise


def _conclude(registry: Registry, record: Record, status: Status, reason: str) -> None:
    record.forget_coroutine()
    record.history.append((status, time.time(), record.attempt, reason))
    if status is Status.READY:
        record.issue_token()  # To be run again at once: a test does not wait for the moment of the next attempt.
        return
    registry.live.pop(record.number, None)
    record.context = NO_CONTEXT
    record.wake_waiters()


def _interrupt(record: Record, reason: str) -> None:
    if record.cancel_reason is None or (record.cancel_reason, reason) == ("timeout", "asked"):
        record.cancel_reason = reason  # A request also keeps an attempt that timed out from being tried again.
    task = record.asyncio_task
    if task is not None:
        task.get_loop().call_soon_threadsafe(task.cancel)


class Surroundings:
    """
    The place where asgiref carries out the thread-sensitive calls of the code that makes this object.

    A task that takes it over makes its ORM calls where its caller makes them: on the same connection and in the same
    transaction. The place where it was fired may be gone by then, such as the thread of a request.
    """

    def __init__(self) -> None:
        self._executor = getattr(AsyncToSync.executors, "current", None)
        self._context = SyncToAsync.thread_sensitive_context.get(None)
        self._is_nested = SyncToAsync.deadlock_context.get(False)

    def enter(self) -> None:
        AsyncToSync.executors.current = self._executor
        SyncToAsync.thread_sensitive_context.set(self._context)  # type: ignore[arg-type]  # None as if there were none.
        SyncToAsync.deadlock_context.set(self._is_nested)

    def release(self) -> None:
        pass
