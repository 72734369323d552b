"""What a test has fired: looked at, run, asserted."""

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

MAX_FIRED_BY_TASKS = 1000  # So many one call runs of what its tasks fire, and what these fire, and so on.
NOT_CAPTURED = "In live mode, and outside Django's test environment, tasks run by themselves and are not captured."

Fireable = Task[..., Any] | Callable[..., Coroutine[Any, Any, Any]] | str


class Fired(Sequence[FiredTask]):
    """
    What the running test has fired, in order. Each test starts with none.

    What was fired in a transaction that was rolled back is not in it.
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
        """Forget what was fired. What was not run yet is never run."""
        for item in self:
            forget(item)

    def __repr__(self) -> str:
        return f"<fired: {list(self)}>"


fired = Fired()


# Running.


def run_fired(*, raise_errors: bool = True) -> list[FiredTask]:
    """
    Run what was fired and not run yet, in order, and what these tasks fire in turn.

    They run one after the other in this thread, on the test's own connections and in its transaction. What is to be
    tried again is run again at once, and what was fired for later does not wait either.

    Args:
        raise_errors: raise what a task raises, and leave those after it. Else it is kept in `FiredTask.error`.

    Returns:
        Those that were run.

    Raises:
        RuntimeError: called in async code, in live mode, or tasks fire tasks without end.
        TaskFailed: a task raised a `SystemExit` or the like, which never leaves it.
    """
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("run_fired() is for sync code, and an event loop runs here: use `await arun_fired()`.")
    return async_to_sync(arun_fired)(raise_errors=raise_errors)


async def arun_fired(*, raise_errors: bool = True) -> list[FiredTask]:
    """Do what `run_fired` does, on the running loop."""
    if not isinstance(get_runtime(), CapturingRuntime):
        raise RuntimeError(f"{NOT_CAPTURED} Await their handles.")
    surroundings = Surroundings()
    ran: dict[FiredTask, None] = {}  # One that is tried again is run more than once.
    most = MAX_FIRED_BY_TASKS + len(_find_waiting())
    while waiting := _find_waiting():
        for item in waiting:
            if len(ran) >= most and item not in ran:  # How often one is tried again is bounded.
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

    They are compared with what the task gets, so a tuple equals a list, and a date its text. By position or by name is
    the same, and what is not given does not matter.

    Args:
        task: a task function, a coroutine function, or a name.

    Returns:
        The first that matches.

    Raises:
        AssertionError: with a list of what was fired.
        TypeError: the arguments do not fit the function, or belong to a coroutine object.
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
        raise TypeError(f"{name!r} names no task function, so its arguments are not known: give the function, or none.")
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
    raise TypeError(f"What was fired is a task function, a coroutine function or a name, not {task!r:.200}.")


def _has(arguments: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return all(
        name in arguments and _as_task_gets(arguments[name]) == _as_task_gets(value) for name, value in wanted.items()
    )


def _as_task_gets(value: Any) -> Any:
    """Return the value as JSON gives it back; as it is, if JSON cannot hold it: a default, or a `mock.ANY`."""
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
    return f"{NOT_CAPTURED} Look at their handles, or at the rows."
