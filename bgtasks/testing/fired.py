"""The fired tasks of a test: a sequence of them, functions that run them, and assertions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from typing import Any, overload

from asgiref.sync import async_to_sync

from ..api import get_runtime
from ..definition import Task, arguments, declared, name_of
from ..definition.sensitive import hide
from ..status import Status
from .callers_executor import Surroundings
from .capture import CapturingRuntime, FiredTask, bind, captured, forget, is_waiting, run

MAX_FIRED_BY_TASKS = 1000  # Tasks that one call runs beside those it starts with: they are fired by tasks in turn.
NOT_CAPTURED = "In live mode, and outside Django's test environment, tasks run by themselves and are not captured."

Fireable = Task[..., Any] | Callable[..., Coroutine[Any, Any, Any]] | str


class Fired(Sequence[FiredTask]):
    """
    The tasks that the running test has fired, in order. Each test begins without any.

    A task whose transaction was rolled back is left out.
    """

    @overload
    def __getitem__(self, index: int) -> FiredTask: ...

    @overload
    def __getitem__(self, index: slice) -> list[FiredTask]: ...

    def __getitem__(self, index: int | slice) -> FiredTask | list[FiredTask]:
        return list(captured.values())[index]

    def __len__(self) -> int:
        return len(captured)

    def __iter__(self) -> Iterator[FiredTask]:
        return iter(list(captured.values()))  # A copy: other threads may fire meanwhile.

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Iterable) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # It changes.

    def clear(self) -> None:
        """Forget the fired tasks. Those that have not run yet are never run."""
        for item in self:
            forget(item)

    def __repr__(self) -> str:
        return f"<fired: {list(self)}>"


fired = Fired()


# Running.


def run_fired(*, raise_errors: bool = True) -> list[FiredTask]:
    """
    Run the fired tasks that have not run yet, in order, and the tasks that these fire.

    They run one after the other in this thread, on the test's own connections and in its transaction. A task with
    retries is run again at once, until it ends. A task with a later moment does not wait for it.

    Args:
        raise_errors: whether to raise the exception of a task that fails, and to run no further tasks. If not, it is
            left in `FiredTask.error`.

    Returns:
        The tasks that were run.

    Raises:
        RuntimeError: called in async code or in live mode, or tasks fire tasks without end.
        TaskFailed: a task raised a `SystemExit` or the like, which never leaves a task.
    """
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("run_fired() is for sync code, and an event loop runs here: use `await arun_fired()`.")
    return async_to_sync(arun_fired)(raise_errors=raise_errors)


async def arun_fired(*, raise_errors: bool = True) -> list[FiredTask]:
    """Do the work of `run_fired` on the running loop."""
    if not isinstance(get_runtime(), CapturingRuntime):
        raise RuntimeError(f"{NOT_CAPTURED} Await their handles.")
    surroundings = Surroundings()
    ran: dict[FiredTask, None] = {}  # An ordered set: a task with retries is run more than once.
    most = MAX_FIRED_BY_TASKS + len(_find_waiting())
    while waiting := _find_waiting():
        for item in waiting:
            if len(ran) >= most and item not in ran:  # The retries of a task are bounded anyway.
                raise RuntimeError(
                    f"Tasks have fired {MAX_FIRED_BY_TASKS} tasks, and now {item}: do they fire each other without end?"
                )
            if await run(item, surroundings):
                ran[item] = None
                if raise_errors and item.status is Status.FAILED:
                    if isinstance(item.error, Exception):
                        raise item.error
                    await item.handle
    return list(ran)


def _find_waiting() -> list[FiredTask]:
    return [item for item in fired if is_waiting(item)]


# Asserting.


def assert_fired(task: Fireable, /, *args: Any, **kwargs: Any) -> FiredTask:
    """
    Assert that the running test has fired a task with these arguments.

    Arguments are compared in the form in which the task gets them: a tuple equals a list, and a date equals its text.
    It does not matter whether an argument is passed by position or by name. Arguments that are left out are not
    compared.

    Args:
        task: a task function, a coroutine function, or a name.

    Returns:
        The first task that matches.

    Raises:
        AssertionError: there is no such task. The message lists the fired tasks.
        TypeError: the arguments do not fit the function, or are not known, since the name is not that of a function.
    """
    __tracebackhide__ = True
    name, found = _find(task, args, kwargs)
    if not found:
        raise AssertionError(f"{_describe(task, name, args, kwargs)} was not fired. {_list_fired()}")
    return found[0]


def assert_not_fired(task: Fireable, /, *args: Any, **kwargs: Any) -> None:
    """Assert that no task was fired that `assert_fired` would find."""
    __tracebackhide__ = True
    name, found = _find(task, args, kwargs)
    if found:
        raise AssertionError(f"{_describe(task, name, args, kwargs)} was fired. {_list_fired()}")


def _find(task: Fireable, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, list[FiredTask]]:
    name = _name_of(task)
    same = [item for item in fired if item.name == name]
    if not args and not kwargs:
        return name, same
    function = declared.get(name) if isinstance(task, str) else task
    if function is None:
        raise TypeError(
            f"{name!r} is not the name of a task function, so its arguments are not known: pass the function, or leave "
            "out the arguments."
        )
    try:
        wanted = bind(function if isinstance(function, Task) else Task(function), args, kwargs, with_defaults=False)
    except TypeError as error:
        raise TypeError(f"Task {name!r} cannot take these arguments: {error}") from None
    return name, [item for item in same if _has(item.arguments, wanted)]


def _name_of(task: object) -> str:
    if isinstance(task, str):
        return task
    if isinstance(task, Task):
        return task.name
    if callable(task):
        return name_of(task)
    raise TypeError(f"Pass a task function, a coroutine function or a name, not {task!r:.200}.")


def _has(arguments: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return all(
        name in arguments and _as_task_gets(arguments[name]) == _as_task_gets(value) for name, value in wanted.items()
    )


def _as_task_gets(value: Any) -> Any:
    """Return a value decoded from its JSON. A value without JSON, such as a `mock.ANY`, is returned unchanged."""
    try:
        return json.loads(arguments.encode_value(value))
    except (TypeError, ValueError):
        return value


def _describe(task: Fireable, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> str:
    function = declared.get(name) if isinstance(task, str) else task
    if isinstance(function, Task):
        args, kwargs = hide(function.sensitive, function.signature, args, kwargs)
    given = [repr(value) for value in args] + [f"{key}={value!r}" for key, value in kwargs.items()]
    return f"{name}({', '.join(given)})" if given else name


def _list_fired() -> str:
    if fired:
        return "Fired were:" + "".join(f"\n  {item}" for item in fired)
    if isinstance(get_runtime(), CapturingRuntime):
        return "Nothing was fired."
    return f"{NOT_CAPTURED} Check their handles, or the rows."
