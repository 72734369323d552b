"""
`Task`, a function and its options, and the decorator that makes one.

Knows nothing of databases and loops. The dictionary `declared` is what the registry looks names up in.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable
from functools import cached_property
from typing import Any, Generic, Literal, ParamSpec, TypeVar, get_args, overload

from asgiref.sync import iscoroutinefunction

from .failure import storable

P = ParamSpec("P")
T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")

Verdict = Literal["fail", "rerun"]

MAX_NAME_LENGTH = 200
RERUN_ATTEMPTS = 3  # The bound that keeps a task that kills its process from looping for ever.

declared: dict[str, Task[Any, Any]] = {}


class Task(Generic[P, T_co]):
    """
    A task function: what `@bgtasks.task` makes of a function. Calling it calls the function, here and now.

    `T_co` is what calling the function returns: for `async def` a coroutine.
    """

    def __init__(
        self,
        func: Callable[P, T_co],
        *,
        name: str | None = None,
        on_lost: Verdict = "fail",
        stuck_after: float | None = None,
        fire_on_commit: bool | None = None,
    ) -> None:
        self.func = func
        self.name = check_name(name) if name is not None else name_of(func)
        self.on_lost = _check_verdict(on_lost)
        self.stuck_after = _check_seconds("stuck_after", stuck_after)
        self.fire_on_commit = _check_flag("fire_on_commit", fire_on_commit)
        self.is_async = iscoroutinefunction(func)
        # Calling an `async def` function binds the arguments and runs none of its body. A function that is only
        # marked as one (`inspect.markcoroutinefunction`) may run anything.
        self.binds_by_call = inspect.iscoroutinefunction(func) and _is_native(func)
        self.loop_name = f"bgtasks: {self.name}"  # What its asyncio task is called.
        self.__doc__ = func.__doc__
        self.__wrapped__ = func
        self.__module__ = func.__module__

    @property
    def max_attempts(self) -> int:
        return RERUN_ATTEMPTS if self.on_lost == "rerun" else 1

    @cached_property
    def signature(self) -> inspect.Signature:
        return inspect.signature(self.func)

    @cached_property
    def place(self) -> str:
        """Where the function is written, as `module.qualname (file:line)`."""
        return f"{self.func.__module__}.{self.func.__qualname__} ({':'.join(map(str, _source_of(self.func)))})"

    def using(
        self, *, on_lost: Verdict | None = None, stuck_after: float | None = None, fire_on_commit: bool | None = None
    ) -> Task[P, T_co]:
        """
        Return this task with other options, for one firing: `fire(send_welcome.using(on_lost="rerun"), 42)`.

        Args:
            on_lost: what becomes of it when its process dies while it runs.
            stuck_after: seconds of running after which it is called stuck.
            fire_on_commit: whether sync code inside a transaction fires it with that transaction, or at once.
        """
        task = copy.copy(self)
        if on_lost is not None:
            task.on_lost = _check_verdict(on_lost)
        if stuck_after is not None:
            task.stuck_after = _check_seconds("stuck_after", stuck_after)
        if fire_on_commit is not None:
            task.fire_on_commit = _check_flag("fire_on_commit", fire_on_commit)
        return task

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T_co:
        return self.func(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Task {self.name}>"


@overload
def task(function: Callable[P, T], /) -> Task[P, T]: ...


@overload
def task(
    *,
    name: str | None = None,
    on_lost: Verdict = "fail",
    stuck_after: float | None = None,
    fire_on_commit: bool | None = None,
) -> Callable[[Callable[P, T]], Task[P, T]]: ...


def task(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    on_lost: Verdict = "fail",
    stuck_after: float | None = None,
    fire_on_commit: bool | None = None,
) -> Any:
    """
    Declare a function as a task function, known by its name in every process that imports it.

    Args:
        name: the stable name its rows carry; by default `module.function`. Give one before you move the function.
        on_lost: what becomes of a task whose process dies while it runs: "fail" (at most once: it ends as LOST) or
            "rerun" (at least once: any process runs it again, 3 attempts in all).
        stuck_after: seconds of running after which it is called stuck. None: the setting STUCK_AFTER.
        fire_on_commit: whether sync code inside `transaction.atomic()` writes the row in that transaction, and the
            task starts after its commit; else it is fired at once. None: the setting FIRE_ON_COMMIT.

    Raises:
        TypeError: for what is no function, or an option that does not exist.
        ValueError: for a value that an option cannot have, a name that another function has, or a builtin function
            that does not tell its parameters.
    """

    def declare(function: Callable[..., Any]) -> Task[..., Any]:
        _check_function(function)
        made: Task[..., Any] = Task(
            function, name=name, on_lost=on_lost, stuck_after=stuck_after, fire_on_commit=fire_on_commit
        )
        made.signature  # noqa: B018  # A builtin may have none: then its arguments could never be checked.
        other = declared.get(made.name)
        if other is not None and not _is_same(other.func, function):
            raise ValueError(
                f"Two task functions are called {made.name!r}: {other.place} and {made.place}. "
                'Give one of them another name: @bgtasks.task(name="…").'
            )
        declared[made.name] = made
        return made

    return declare if function is None else declare(function)


def name_of(function: object) -> str:
    """Return `module.qualname` of a function or method, cut to what a row can hold."""
    module = getattr(function, "__module__", None) or type(function).__module__
    qualname = getattr(function, "__qualname__", None) or type(function).__qualname__
    return storable(f"{module}.{qualname}")[-MAX_NAME_LENGTH:]


def check_name(name: object) -> str:
    """Return `name` when every database can store it; raise TypeError or ValueError when not."""
    if not isinstance(name, str):
        raise TypeError(f"A task's name is a string, not {type(name).__name__}.")
    name = str.__str__(name)  # A subclass, such as an enum's member, may say something else.
    if not 0 < len(name) <= MAX_NAME_LENGTH:
        raise ValueError(f"A task's name has 1 to {MAX_NAME_LENGTH} characters, not {len(name)}.")
    if not name.isprintable():  # Also refuses NUL and lone surrogates.
        raise ValueError(f"A task's name has printable characters only: {name!r} has others.")
    return name


def _check_function(function: object) -> None:
    if isinstance(function, Task):
        raise TypeError(f"{function.place} is a task function already: use @bgtasks.task once.")
    if inspect.isclass(function) or not inspect.isroutine(function):
        raise TypeError(
            f"@bgtasks.task goes on a function (`async def` or `def`), not on {function!r}. "
            "If it is an option, give it by its name."
        )
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise TypeError(f"{name_of(function)} is a generator: nobody would iterate it. Write a task that loops itself.")


def _check_verdict(on_lost: object) -> Verdict:
    if on_lost not in get_args(Verdict):
        raise ValueError(f'on_lost is "fail" or "rerun", not {on_lost!r}.')
    return on_lost  # type: ignore[return-value]  # Just checked.


def _check_seconds(option: str, value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{option} is a number of seconds, not {value!r}.")
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{option} is a number of seconds greater than 0, not {value!r}.")
    return value


def _is_native(function: Any) -> bool:
    code = getattr(inspect.unwrap(function) if inspect.ismethod(function) else function, "__code__", None)
    return code is not None and bool(code.co_flags & inspect.CO_COROUTINE)


def _check_flag(option: str, value: object) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise TypeError(f"{option} is True or False, not {value!r}.")
    return value


def _source_of(function: Any) -> tuple[str, int]:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return (code.co_filename, code.co_firstlineno) if code else ("built-in", 0)


def _is_same(one: Any, other: Any) -> bool:
    """Tell whether a module that is loaded anew, or a factory that runs again, made the same function twice."""
    if one.__module__ == other.__module__ == "__main__":  # Typed anew at a prompt.
        return True
    return name_of(one) == name_of(other) and _source_of(one) == _source_of(other)
