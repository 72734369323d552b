"""The functions that `bgtasks` exports. They reach the runtime through the AppConfig, at call time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, cast, overload
from uuid import UUID

from django.apps import apps
from django.core.exceptions import AppRegistryNotReady, ImproperlyConfigured

from .conf import Settings
from .definition import Task
from .process.drain_report import DrainReport
from .process.record import Record
from .process.registry import Registry
from .runtime.context import is_inside_live_task
from .runtime.drain_deadline import find_deadline
from .runtime.handle import HandleOwner, TaskHandle

if TYPE_CHECKING:
    from .runtime.firing import Firing  # For types only: both import models, which are loaded later.
    from .runtime.runner import Runner

P = ParamSpec("P")
R = TypeVar("R")


class Admits(Protocol):
    """Takes new records: `runtime.admission` starts them, and in tests `testing.capture` keeps them."""

    def admit(self, record: Record) -> None:
        """Take a new record, and return at once."""

    async def record_first(self, record: Record) -> Record:
        """Take a new record, and return it, or that of the task with its key, once it is recorded."""


class Runtime(HandleOwner, Protocol):
    """The part of the runner that fires: a `Runner`, and in tests a `CapturingRuntime`."""

    settings: Settings
    registry: Registry
    firing: Firing

    @property
    def admission(self) -> Admits: ...

    def find(self, task_id: UUID) -> Record: ...

    async def afind(self, task_id: UUID) -> Record: ...

    def serve(self, loop: asyncio.AbstractEventLoop) -> None: ...

    async def drain(self, asked_by: str, deadline: float) -> DrainReport: ...


class Config(Protocol):
    """The AppConfig, as the modules above this one use it."""

    def find_runner(self) -> Runner | None:
        """Return this process's runner if it has been made; none is made for the question."""

    def go_live(self) -> Runner:
        """Run tasks from now on, in tests too, until `shut_down`."""

    def shut_down(self) -> None:
        """End the threads of the runtime."""

    def begin_anew(self) -> None:
        """Forget a runtime that was shut down, or one that only captures."""


def get_config() -> Config:
    return cast("Config", apps.get_app_config("bgtasks"))


def get_runtime() -> Runtime:
    """
    Return the runtime of this process; make it if need be.

    Raises:
        AppRegistryNotReady: Django has not been set up yet.
        ImproperlyConfigured: "bgtasks" is not in INSTALLED_APPS.
    """
    try:
        runtime: Runtime = apps.app_configs["bgtasks"].runtime  # type: ignore[attr-defined]
        return runtime
    except KeyError:
        if not apps.ready:
            raise AppRegistryNotReady("bgtasks cannot be used before django.setup() is done.") from None
        raise ImproperlyConfigured('Put "bgtasks" into INSTALLED_APPS.') from None


def get_runner() -> Runner:
    """Return the runner of this process, where tasks run: in tests only after `go_live`."""
    return cast("Runner", get_runtime())


@overload
def fire(task: Task[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]: ...


@overload
def fire(task: Task[P, R], /, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]: ...


@overload
def fire(task: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]: ...


@overload
def fire(task: Coroutine[Any, Any, R], /, *, name: str | None = None) -> TaskHandle[R]: ...


def fire(task: Any, /, *args: Any, **kwargs: Any) -> TaskHandle[Any]:
    """
    Start a background task and return at once: no I/O, no await.

    The task is recorded within milliseconds. A process that is killed before that leaves no trace of it; `afire` waits
    for the record. A failure of the task never reaches the caller: it is recorded and logged.

    Args:
        task: a task function (`@bgtasks.task`), a coroutine function, or a coroutine object. The last two cannot be
            run again by another process.
        args: the function's arguments, plain data that JSON can hold, up to MAX_ARGS_BYTES together.
        kwargs: the same by keyword; for a coroutine object only `name`, by default its own.

    Raises:
        TypeError: it cannot be fired, or its arguments do not fit the function, or JSON cannot hold them.
        ValueError: an argument or the name has content that databases cannot hold, or is too large.
        Draining: the process is shutting down, and no other process could start the task.
        Overloaded: the database is away and MAX_UNWRITTEN records wait in memory.
    """
    runtime = get_runtime()
    record = runtime.firing.make(task, args, kwargs)
    runtime.admission.admit(record)
    return TaskHandle(runtime, record)


@overload
async def afire(task: Task[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]: ...


@overload
async def afire(task: Task[P, R], /, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]: ...


@overload
async def afire(task: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]: ...


@overload
async def afire(task: Coroutine[Any, Any, R], /, *, name: str | None = None) -> TaskHandle[R]: ...


async def afire(task: Any, /, *args: Any, **kwargs: Any) -> TaskHandle[Any]:
    """
    Record a background task, then start it; return when its row is committed.

    Takes what `fire` takes and raises what it raises, and also:

    Raises:
        NotRecorded: the database did not take it within WRITE_TIMEOUT. It is not stored and not started.
        RecordUnknown: the same, but the write was on its way and may have been committed.
        KeyConflict: another task has its key, and its option `on_conflict` asks for an error.
    """
    runtime = get_runtime()
    return TaskHandle(runtime, await runtime.admission.record_first(runtime.firing.make(task, args, kwargs)))


def get(task_id: UUID | str) -> TaskHandle[Any]:
    """
    Return a handle of any task, also of one in another process, or from yesterday. For sync code: it asks the database.

    A handle of a task that runs in another process asks for its row every POLL_INTERVAL while it is awaited.

    Raises:
        TaskNotFound: no row has the id.
        ValueError: the id is not a UUID.
        RuntimeError: called in async code, see `aget`.
    """
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("bgtasks.get() asks the database, which would block the event loop: `await bgtasks.aget()`.")
    runtime = get_runtime()
    return TaskHandle(runtime, runtime.find(_as_uuid(task_id)))


async def aget(task_id: UUID | str) -> TaskHandle[Any]:
    """Do the work of `get` in async code."""
    runtime = get_runtime()
    return TaskHandle(runtime, await runtime.afind(_as_uuid(task_id)))


def _as_uuid(task_id: UUID | str) -> UUID:
    if isinstance(task_id, UUID):
        return task_id
    try:
        return UUID(task_id)
    except (ValueError, AttributeError, TypeError):
        raise ValueError(f"A task's id is a UUID, not {task_id!r:.100}.") from None


def live_tasks() -> list[TaskHandle[Any]]:
    """Return handles of the live tasks that this process holds: running, or waiting for it to start or record them."""
    runtime = get_runtime()
    return [TaskHandle(runtime, record) for record in list(runtime.registry.live.values())]


def pending_task_count() -> int:
    """Return how many live tasks this process holds. What waits in the table belongs to no process."""
    return len(get_runtime().registry.live)


async def drain(timeout: float | None = None) -> DrainReport:
    """
    Shut down the tasks of this process: start nothing more, let the running ones finish, cut short the rest.

    `Lifespan` does this when the server stops; a program without a server calls it before it ends.

    Args:
        timeout: seconds for which tasks may go on. None: the setting DRAIN_TIMEOUT. Cancelled tasks have CANCEL_GRACE
            seconds more, the last writes FLUSH_TIMEOUT.

    Returns:
        The numbers that the Drain row holds too.

    Raises:
        RuntimeError: called inside a task, which would wait for itself.
    """
    if is_inside_live_task():
        raise RuntimeError("bgtasks.drain() inside a task would wait for that task: call it from elsewhere.")
    runtime = get_runtime()
    now = time.monotonic()
    deadline = find_deadline(runtime.settings, now, now, timeout)
    return await runtime.drain("a call of bgtasks.drain()", deadline)
