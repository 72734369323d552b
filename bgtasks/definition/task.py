"""
`Task`, a function and its options, and the decorator that makes one.

Knows nothing of databases and loops. The dictionary `declared` is what the registry looks names up in.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Generic, ParamSpec, TypeVar, Unpack, overload

from asgiref.sync import iscoroutinefunction

from ..failure import storable
from .options import STORED_OPTIONS, OnLost, Options, TaskOptions, UsingOptions, default_attempts
from .parameters import fingerprint
from .rate import Rate, parse_rate
from .sensitive import check_installed
from .versions import Step

P = ParamSpec("P")
T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")
StepT = TypeVar("StepT", bound=Step)

MAX_NAME_LENGTH = 200
DEFAULTS = Options()

declared: dict[str, Task[Any, Any]] = {}  # By name, and by each alias.


class Task(Generic[P, T_co]):
    """
    A task function: what `@bgtasks.task` makes of a function. Calling it calls the function, here and now.

    `T_co` is what calling the function returns: for `async def` a coroutine.
    """

    # What the runtime asks of each task, as plain attributes.
    options: Options
    on_lost: OnLost
    stuck_after: float | None
    fire_on_commit: bool | None
    max_attempts: int
    has_timeouts: bool
    rate: Rate | None
    is_isolated: bool
    is_limited: bool
    sensitive: tuple[str, ...]
    needs_extras: bool  # Whether its rows have columns that most tasks do not use.

    def __init__(self, func: Callable[P, T_co], *, name: str | None = None, **options: Unpack[TaskOptions]) -> None:
        self.func = func
        self.name = check_name(name) if name is not None else name_of(func)
        self.is_async = iscoroutinefunction(func)
        # Calling an `async def` function binds the arguments and runs none of its body. A function that is only
        # marked as one (`inspect.markcoroutinefunction`) may run anything.
        self.binds_by_call = inspect.iscoroutinefunction(func) and _is_native(func)
        self.loop_name = f"bgtasks: {self.name}"  # What its asyncio task is called.
        self.overrides: dict[str, Any] = {}  # What `.using(…)` has changed and its rows keep in their column `options`.
        self.steps: dict[int, Step] = {}  # From older versions of its arguments, by the version they begin at.
        self.__doc__ = func.__doc__
        self.__wrapped__ = func
        self.__module__ = func.__module__
        self._apply(Options().changed(options, "@bgtasks.task", self.is_async) if options else DEFAULTS)

    def _apply(self, options: Options) -> None:
        self.options = options
        self.on_lost = options.on_lost
        self.stuck_after = options.stuck_after
        self.fire_on_commit = options.fire_on_commit
        self.max_attempts = options.max_attempts or default_attempts(options.on_lost)
        self.has_timeouts = options.timeout is not None or options.soft_timeout is not None
        self.rate = parse_rate(options.rate) if options.rate is not None else None
        self.is_isolated = options.isolated
        self.is_limited = options.max_running is not None or self.rate is not None or self.is_isolated
        self.sensitive = options.sensitive
        self.needs_extras = bool(
            self.overrides
            or options.queue != DEFAULTS.queue
            or options.priority
            or options.run_after is not None
            or options.key is not None
            or options.rate_key
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Its name and its aliases: what its rows may be called."""
        return self.name, *self.options.aliases

    @cached_property
    def signature(self) -> inspect.Signature:
        return inspect.signature(self.func)

    @cached_property
    def signature_fingerprint(self) -> str:
        """The version, and what tells this signature from an older one: what a row says of the code that fired it."""
        return fingerprint(self.signature, self.options.version)

    @cached_property
    def place(self) -> str:
        """Where the function is written, as `module.qualname (file:line)`."""
        return f"{self.func.__module__}.{self.func.__qualname__} ({':'.join(map(str, _source_of(self.func)))})"

    def using(self, **options: Unpack[UsingOptions]) -> Task[P, T_co]:
        """
        Return this task with other options, for one firing: `fire(send_welcome.using(on_lost="rerun"), 42)`.

        Its rows keep them, so they hold in whichever process the task runs. See `Options` for what there is.

        Raises:
            TypeError: an option that does not exist, that no row can keep, or a value of a wrong type.
            ValueError: a value that an option cannot have, or options that contradict each other.
        """
        task = copy.copy(self)
        changed = self.options.changed(options, ".using", self.is_async)
        task.overrides = self.overrides | {name: getattr(changed, name) for name in STORED_OPTIONS if name in options}
        task._apply(changed)
        return task

    def restored(
        self, overrides: Mapping[str, Any], on_lost: OnLost, stuck_after: float | None, max_attempts: int
    ) -> Task[P, T_co]:
        """
        Return this task with the options of a row, which `.using(…)` or another release may have made different.

        Args:
            overrides: what the row has in its column `options`.
            max_attempts: as the row counts. Whether what it raises is followed by another attempt, too, depends on
                whether somebody gave that number.

        Raises:
            TypeError, ValueError: a value that an option cannot have.
        """
        different = {**overrides, "on_lost": on_lost, "stuck_after": stuck_after}
        given = overrides.get("max_attempts", self.options.max_attempts)
        different["max_attempts"] = (
            None if given is None and max_attempts == default_attempts(on_lost) else max_attempts
        )
        options = self.options
        if all(getattr(options, name, value) == value for name, value in different.items()):
            return self
        task = copy.copy(self)
        task.overrides = dict(overrides)
        task._apply(options.restored(different, self.is_async))
        return task

    def migrate(self, *, from_version: int) -> Callable[[StepT], StepT]:
        """
        Declare the step from the arguments of one version to those of the next.

        It decorates a plain function, which gets the old arguments as a list and a dictionary and returns the new ones
        as such a pair. A row of an older version takes all steps from there when it is claimed, on the journal's
        thread: a step rearranges what it gets, at once, and asks nobody.

        Raises:
            TypeError: for what is no number, or no plain function.
            ValueError: the version is none before the function's, or has a step already.
        """
        if isinstance(from_version, bool) or not isinstance(from_version, int):
            raise TypeError(f"migrate: from_version is a whole number, not {from_version!r}.")
        if not 1 <= from_version < self.options.version:
            raise ValueError(
                f"migrate: from_version is a version before that of {self.name}, which is {self.options.version}, not "
                f"{from_version}: count up @bgtasks.task(version=…) when the arguments change."
            )

        def declare(step: StepT) -> StepT:
            if not callable(step) or isinstance(step, Task) or iscoroutinefunction(step):
                raise TypeError(
                    f"migrate: the step from version {from_version} of {self.name} is a plain function that returns "
                    f"(args, kwargs), not {step!r:.120}."
                )
            other = self.steps.get(from_version)
            if other is not None:
                raise ValueError(
                    f"migrate: {self.name} has two steps from version {from_version}: {name_of(other)} and "
                    f"{name_of(step)}."
                )
            self.steps[from_version] = step
            return step

        return declare

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T_co:
        return self.func(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Task {self.name}>"


@overload
def task(function: Callable[P, T], /) -> Task[P, T]: ...


@overload
def task(*, name: str | None = None, **options: Unpack[TaskOptions]) -> Callable[[Callable[P, T]], Task[P, T]]: ...


def task(
    function: Callable[..., Any] | None = None, /, *, name: str | None = None, **options: Unpack[TaskOptions]
) -> Any:
    """
    Declare a function as a task function, known by its name in every process that imports it.

    Args:
        name: the stable name its rows carry; by default `module.function`. Give one before you move the function.
        options: see `Options`.

    Raises:
        TypeError: for what is no function, or an option that does not exist.
        ValueError: for a value that an option cannot have, options that contradict each other, a name or an alias that
            another function has as either, or a builtin function that does not tell its parameters.
        ImproperlyConfigured: for `sensitive` without the package `cryptography`.
    """

    def declare(function: Callable[..., Any]) -> Task[..., Any]:
        _check_function(function)
        made: Task[..., Any] = Task(function, name=name, **options)
        # A builtin may have none: then its arguments could never be checked. Made here, all that `.using(…)` returns
        # have it too.
        made.signature_fingerprint  # noqa: B018
        _check_names(made)
        if made.sensitive:
            _check_sensitive(made)
        declared.update(dict.fromkeys(made.names, made))
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


def _check_names(made: Task[..., Any]) -> None:
    for name in made.names:
        check_name(name)
        other = declared.get(name)
        if other is not None and not _is_same(other.func, made.func):
            raise ValueError(
                f"Two task functions are called {name!r}: {_tell_name(other, name)} and {_tell_name(made, name)}. "
                'Give one of them another name: @bgtasks.task(name="…").'
            )


def _check_sensitive(made: Task[..., Any]) -> None:
    parameters = made.signature.parameters
    for name in made.sensitive:
        if name not in parameters:
            there_are = f"There are: {', '.join(parameters)}" if parameters else "It has none"
            raise ValueError(f"sensitive names {name!r}, which is no parameter of {made.place}. {there_are}.")
    check_installed()


def _tell_name(task: Task[..., Any], name: str) -> str:
    return task.place if name == task.name else f"{task.place}, which has it among its aliases,"


def _is_native(function: Any) -> bool:
    code = getattr(inspect.unwrap(function) if inspect.ismethod(function) else function, "__code__", None)
    return code is not None and bool(code.co_flags & inspect.CO_COROUTINE)


def _source_of(function: Any) -> tuple[str, int]:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return (code.co_filename, code.co_firstlineno) if code else ("built-in", 0)


def _is_same(one: Any, other: Any) -> bool:
    """Tell whether a module that is loaded anew, or a factory that runs again, made the same function twice."""
    if one.__module__ == other.__module__ == "__main__":  # Typed anew at a prompt.
        return True
    return name_of(one) == name_of(other) and _source_of(one) == _source_of(other)
