"""
Capture: the runtime of tests. It checks fired tasks as the real runtime does, and keeps them instead of starting them.

It has no thread, no connection, no row and no event loop of its own. Tests use it through `bgtasks.testing`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any
from uuid import UUID

from django.db import transaction

from ..conf import Settings
from ..definition import Task, arguments
from ..definition.sensitive import hide
from ..process.drain_report import DrainReport
from ..process.locale import Locale
from ..process.record import Record
from ..process.registry import Registry
from ..process.state import ProcessState
from ..runtime.attempt import ASKED_FOR
from ..runtime.cancelling import Interrupter
from ..runtime.firing import Firing
from ..runtime.handle import TaskHandle
from ..runtime.lookup import afind, find
from ..runtime.outbox import AtCommit, find_transaction
from ..status import Status
from .callers_executor import CallersExecutor, Surroundings, conclude

NOT_RUN = (
    "Task %s was captured, as all tasks are in tests, and nothing has run it. Call run_fired() or `await arun_fired()` "
    "of bgtasks.testing first, or use live mode, where tasks run by themselves."
)


class FiredTask:
    """A task that a test has fired, and its outcome."""

    def __init__(self, runtime: CapturingRuntime, record: Record) -> None:
        self.task = record.task  # None for a coroutine function or a coroutine object.
        self.name = record.name
        self.args = record.args  # As the task gets them, that is, decoded from JSON.
        self.kwargs = record.kwargs
        self.handle: TaskHandle[Any] = TaskHandle(runtime, record)
        self._function = record.task or record.function
        self._runtime = runtime
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


# The tasks that the test has fired, by number, in order. From any thread: each operation on a dictionary is atomic.
captured: dict[int, FiredTask] = {}


def is_waiting(item: FiredTask) -> bool:
    """Return whether the task has yet to be run, for the first time or again."""
    return item._record.is_live and item._record.status is Status.READY


async def run(item: FiredTask, surroundings: Surroundings) -> bool:
    """Run the task, unless other code has started it meanwhile; return whether it was run."""
    if not (is_waiting(item) and item._record.take()):
        return False
    await item._runtime.run(item._record, surroundings)
    return True


def forget(item: FiredTask) -> None:
    """Drop the task. If it is running, it goes on."""
    captured.pop(item._record.number, None)
    if item._record.take():
        item._record.forget_coroutine()
        item._runtime.registry.live.pop(item._record.number, None)


def bind(task: Task[..., Any], args: arguments.Args, kwargs: arguments.Kwargs, with_defaults: bool) -> dict[str, Any]:
    """
    Return arguments by the names of their parameters.

    Args:
        with_defaults: whether all required arguments are there, and the defaults of the others are to be added.

    Raises:
        TypeError: the arguments do not fit the function.
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

    def __init__(self, runtime: CapturingRuntime) -> None:
        self._runtime = runtime

    def admit(self, record: Record) -> None:
        """Keep a new record, at once: the transaction around a test is never committed."""
        if record.task is not None:
            record.forget_coroutine()  # Each run calls the function again. Unawaited, the coroutine would be a warning.
        record.locale = Locale.of_caller()  # The test may run it in another thread.
        record.issue_token()
        self._runtime.registry.live[record.number] = record
        captured[record.number] = FiredTask(self._runtime, record)
        if asyncio._get_running_loop() is not None:
            return  # Async code has no transaction of its own.
        if (alias := find_transaction(record, self._runtime.settings)) is not None:
            transaction.on_commit(_UnlessRolledBack(record, self._roll_back), using=alias, robust=True)

    async def record_first(self, record: Record) -> Record:
        """Keep a new record. There is no row to wait for."""
        self.admit(record)
        return record

    def _roll_back(self, record: Record) -> None:
        captured.pop(record.number, None)
        self._runtime.registry.live.pop(record.number, None)


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
        self.admission = CapturingAdmission(self)
        self._interrupter = Interrupter(ProcessState(), settings.cancel_grace)

    async def run(self, record: Record, surroundings: Surroundings) -> None:
        """Carry out one attempt at a record whose token was taken, in the surroundings of the caller."""
        executor = CallersExecutor(self.registry, self._interrupter, self.settings.max_result_bytes, surroundings)
        await executor.run(record)

    def find(self, task_id: UUID) -> Record:
        """Return the record of a task, see `lookup.find`."""
        return find(self.registry, task_id)

    async def afind(self, task_id: UUID) -> Record:
        return await afind(self.registry, task_id)

    def serve(self, loop: asyncio.AbstractEventLoop) -> None:
        """Ignore the event loop of a server: no captured task runs on it."""

    async def drain(self, asked_by: str, deadline: float) -> DrainReport:
        """Return the report of a drain without tasks. Tasks can be fired afterwards all the same."""
        return DrainReport(asked_by, time.time(), running_at_start=0, is_written=True)

    # Handles.

    def watch(self, record: Record) -> None:
        """
        Check that an awaited task has been run.

        Raises:
            RuntimeError: it is only captured, and would be awaited for ever.
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
            conclude(self.registry, record, *ASKED_FOR)
        else:
            self._interrupter.interrupt(record, "asked")
        return True
