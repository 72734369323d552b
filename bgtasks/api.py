"""What `bgtasks` exports: the functions a project calls. They reach the runtime through the AppConfig, at call time."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, cast, overload
from uuid import UUID

from asgiref.sync import iscoroutinefunction
from django.apps import apps
from django.core.exceptions import AppRegistryNotReady, ImproperlyConfigured

from .definition import MAX_NAME_LENGTH, Task, check_name, name_of
from .failure import storable
from .process.drain_report import DrainReport
from .runtime.context import is_inside_live_task
from .runtime.handle import TaskHandle

if TYPE_CHECKING:
    from .runtime.runner import Runner  # For the type only: it imports models, which are loaded later.

P = ParamSpec("P")
R = TypeVar("R")


class Config(Protocol):
    """The AppConfig, as the modules above this one use it."""

    def find_runner(self) -> Runner | None:
        """Return this process's runner if it has been made; none is made for the question."""

    def go_live(self) -> None:
        """Run tasks from now on, in tests too, until `shut_down`."""

    def shut_down(self) -> None:
        """End the threads of the runtime."""

    def begin_anew(self) -> None:
        """Forget a runtime that was shut down."""


def get_config() -> Config:
    return cast("Config", apps.get_app_config("bgtasks"))


def get_runner() -> Runner:
    """
    Return this process's runner.

    Raises:
        AppRegistryNotReady: Django has not been set up yet.
        ImproperlyConfigured: "bgtasks" is not in INSTALLED_APPS.
    """
    try:
        runner: Runner = apps.app_configs["bgtasks"].runner  # type: ignore[attr-defined]
        return runner
    except KeyError:
        if not apps.ready:
            raise AppRegistryNotReady("bgtasks cannot be used before django.setup() is done.") from None
        raise ImproperlyConfigured('Put "bgtasks" into INSTALLED_APPS.') from None


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

    The task is recorded within milliseconds. Until then a killed process leaves no trace of it; `afire` waits for that.
    Its failure never reaches the caller: it is recorded and logged.

    Args:
        task: a task function (`@bgtasks.task`), a coroutine function, or a coroutine object. The last two cannot be
            run again by another process.
        args: the function's arguments, plain data that JSON can hold, up to MAX_ARGS_BYTES together.
        kwargs: the same by keyword; for a coroutine object only `name`, by default its own.

    Raises:
        TypeError: nothing that may be fired, arguments that do not fit the function, or that JSON cannot hold.
        ValueError: an argument or name with content that databases cannot hold, or too large.
        Draining: the process is shutting down, and no other process could start the task.
        Overloaded: the database is away and MAX_UNWRITTEN records wait in memory.
    """
    if type(task) is Task:
        return get_runner().fire_task(task, args, kwargs)
    if isinstance(task, Coroutine):
        return get_runner().fire_coroutine(task, _name_coroutine(task, args, kwargs))
    return get_runner().fire_function(_check_function(task), args, kwargs)


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
        NotRecorded: the database did not take it within WRITE_TIMEOUT; it is surely not stored and not started.
        RecordUnknown: the same, but the write was on its way and may have been committed.
    """
    if type(task) is Task:
        return await get_runner().afire_task(task, args, kwargs)
    if isinstance(task, Coroutine):
        return await get_runner().afire_coroutine(task, _name_coroutine(task, args, kwargs))
    return await get_runner().afire_function(_check_function(task), args, kwargs)


def get(task_id: UUID | str) -> TaskHandle[Any]:
    """
    Return a handle of any task, also one of another process, or of yesterday. Asks the database: for sync code.

    Waiting for one that runs in another process asks for its row every POLL_INTERVAL.

    Raises:
        TaskNotFound: no row has the id.
        ValueError: it is no UUID.
        RuntimeError: called in async code, see `aget`.
    """
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("bgtasks.get() asks the database, which would block the event loop: `await bgtasks.aget()`.")
    runner = get_runner()
    return TaskHandle(runner, runner.find(_as_uuid(task_id)))


async def aget(task_id: UUID | str) -> TaskHandle[Any]:
    """Do what `get` does, in async code."""
    runner = get_runner()
    return TaskHandle(runner, await runner.afind(_as_uuid(task_id)))


def _as_uuid(task_id: UUID | str) -> UUID:
    if isinstance(task_id, UUID):
        return task_id
    try:
        return UUID(task_id)
    except (ValueError, AttributeError, TypeError):
        raise ValueError(f"A task's id is a UUID, not {task_id!r:.100}.") from None


def live_tasks() -> list[TaskHandle[Any]]:
    """Return handles of the live tasks that this process holds: running, or waiting for it to start or record them."""
    runner = get_runner()
    return [TaskHandle(runner, record) for record in list(runner.registry.live.values())]


def pending_task_count() -> int:
    """Return how many live tasks this process holds. What waits in the table belongs to no process."""
    return len(get_runner().registry.live)


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
    runner = get_runner()
    now = time.monotonic()
    deadline = runner.settings.find_deadline(now, now, timeout)
    return await runner.drain("a call of bgtasks.drain()", deadline)


def _name_coroutine(coroutine: Coroutine[Any, Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Return a coroutine object's name; close the object if it is refused, or Python would warn of it later."""
    if inspect.iscoroutine(coroutine) and inspect.getcoroutinestate(coroutine) != inspect.CORO_CREATED:
        raise TypeError(f"{coroutine!r} has been started already: fire one that nobody awaited.")
    try:
        name = kwargs.pop("name", None)
        if args or kwargs:
            raise TypeError(f"{coroutine!r} has its arguments already: only `name=` may be given with it.")
        return check_name(name) if name is not None else _name_of_coroutine(coroutine)
    except BaseException:
        coroutine.close()
        raise


def _name_of_coroutine(coroutine: Any) -> str:
    frame = getattr(coroutine, "cr_frame", None)
    module = frame.f_globals.get("__name__", "") if frame is not None else ""
    qualname = getattr(coroutine, "__qualname__", type(coroutine).__qualname__)
    return storable(f"{module}.{qualname}".strip("."))[-MAX_NAME_LENGTH:]


def _check_function(function: Any) -> Callable[..., Coroutine[Any, Any, Any]]:
    """
    Return the `async def` function that was given.

    Raises:
        TypeError: for anything else, saying what may be fired.
    """
    if not isinstance(function, type) and iscoroutinefunction(function):
        return cast("Callable[..., Coroutine[Any, Any, Any]]", function)
    if inspect.isawaitable(function):
        what = f"{function!r:.200} runs by itself already"
    elif inspect.isroutine(function):
        what = f"{name_of(function)} is a plain function without @bgtasks.task"
    else:
        what = f"{function!r:.200} is none of these"
    raise TypeError(
        f"bgtasks fires a function under @bgtasks.task, an `async def` function, or a coroutine object; {what}."
    )
