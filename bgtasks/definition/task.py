"""
`Task`, which is a function with options, and the decorator that makes it.

The dictionary `declared` holds all task functions of this process.
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

declared: dict[str, Task[Any, Any]] = {}  # By name and by alias.


class Task(Generic[P, T_co]):
    """
    A task function: a function with options, made by `@bgtasks.task`.

    Calling it calls the function directly; `bgtasks.fire` starts it as a background task. `T_co` is the type that the
    call returns, for `async def` that of a coroutine.
    """

    # Values that the runtime reads for each task, as plain attributes for speed.
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
    needs_extras: bool  # Whether its rows fill columns that most tasks leave empty.

    def __init__(self, func: Callable[P, T_co], *, name: str | None = None, **options: Unpack[TaskOptions]) -> None:
        self.func = func
        self.name = check_name(name) if name is not None else name_of(func)
        self.is_async = iscoroutinefunction(func)
        # A call of an `async def` function checks the arguments and runs no code of the function. A function that is
        # only marked as a coroutine function (`inspect.markcoroutinefunction`) may run any code.
        self.binds_by_call = inspect.iscoroutinefunction(func) and _is_native(func)
        self.loop_name = f"bgtasks: {self.name}"  # The name of its asyncio task.
        self.overrides: dict[str, Any] = {}  # Options of `.using(…)` that rows store in their column `options`.
        self.steps: dict[int, Step] = {}  # Steps from older versions of the arguments, by the version they convert.
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
        """The name and the aliases: all names that its rows may have."""
        return self.name, *self.options.aliases

    @cached_property
    def signature(self) -> inspect.Signature:
        return inspect.signature(self.func)

    @cached_property
    def signature_fingerprint(self) -> str:
        """The version and a hash of the signature. A row stores it to describe the code that fired the task."""
        return fingerprint(self.signature, self.options.version)

    @cached_property
    def place(self) -> str:
        """The place of the function's source, as `module.qualname (file:line)`."""
        return f"{self.func.__module__}.{self.func.__qualname__} ({':'.join(map(str, _source_of(self.func)))})"

    def using(self, **options: Unpack[UsingOptions]) -> Task[P, T_co]:
        """
        Return a copy with other options, for one firing: `fire(send_welcome.using(on_lost="rerun"), 42)`.

        The row stores the options, so they apply in every process that runs the task.

        Args:
            options: see `Options`, without those that only the decorator takes.

        Raises:
            TypeError: an option that does not exist, an option that a row cannot store, or a value of a wrong type.
            ValueError: an invalid value, or options that contradict each other.
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
        Return this task with the options of a row, which differ after `.using(…)` or in another release.

        Args:
            overrides: the column `options`.
            on_lost, stuck_after, max_attempts: the columns of the same names. If `max_attempts` is only the default of
                `on_lost`, it is not taken as given, since a given number makes the task retry after an error.

        Raises:
            TypeError, ValueError: an invalid value.
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
        Declare a step that converts the arguments of one version to those of the next.

        It decorates a plain function that takes the old arguments as a list and a dictionary, and returns the new ones
        as such a pair. When an older row is claimed, its arguments pass through all steps from its version on. That
        happens on the journal's thread, so a step must be quick, and use neither the database nor the network.

        Raises:
            TypeError: `from_version` is not a number, or the step is not a plain function.
            ValueError: `from_version` is not an older version of the function, or it has a step already.
        """
        if isinstance(from_version, bool) or not isinstance(from_version, int):
            raise TypeError(f"migrate: from_version must be a whole number, not {from_version!r}.")
        if not 1 <= from_version < self.options.version:
            raise ValueError(
                f"migrate: from_version must be at least 1 and less than the version of {self.name}, which is "
                f"{self.options.version}, not {from_version}: increase @bgtasks.task(version=…) when arguments change."
            )

        def declare(step: StepT) -> StepT:
            if not callable(step) or isinstance(step, Task) or iscoroutinefunction(step):
                raise TypeError(
                    f"migrate: the step from version {from_version} of {self.name} must be a plain function that "
                    f"returns (args, kwargs), not {step!r:.120}."
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
    Make a function a task function, which `bgtasks.fire` starts in the background.

    Every process that imports the function's module can run its tasks. The decorated function can still be called
    directly. `async def` runs on the event loop, `def` on a thread.

    Args:
        name: the name that identifies the function in rows, of 1 to 200 printable characters. Default:
            `module.qualname`. Give a name before you move or rename the function, since its rows keep the old one.
        options: see `Options`.

    Raises:
        TypeError: a class, a generator function or another object that is not a plain function or `async def`, an
            option that does not exist, or a value of a wrong type.
        ValueError: an invalid value, options that contradict each other, a name or an alias of another task function,
            or a builtin function without a signature.
        ImproperlyConfigured: `sensitive` is given, and the package `cryptography` is not installed.
    """

    def declare(function: Callable[..., Any]) -> Task[..., Any]:
        _check_function(function)
        made: Task[..., Any] = Task(function, name=name, **options)
        # This raises ValueError for a builtin function without a signature, whose arguments could never be checked. And
        # it stores the fingerprint before `.using(…)` copies the task.
        made.signature_fingerprint  # noqa: B018
        _check_names(made)
        if made.sensitive:
            _check_sensitive(made)
        declared.update(dict.fromkeys(made.names, made))
        return made

    return declare if function is None else declare(function)


def name_of(function: object) -> str:
    """Return `module.qualname` of a function or method; of a long name the last `MAX_NAME_LENGTH` characters."""
    module = getattr(function, "__module__", None) or type(function).__module__
    qualname = getattr(function, "__qualname__", None) or type(function).__qualname__
    return storable(f"{module}.{qualname}")[-MAX_NAME_LENGTH:]


def check_name(name: object) -> str:
    """
    Return a name that every database can store.

    Raises:
        TypeError: it is not a string.
        ValueError: it has no, too many, or unprintable characters.
    """
    if not isinstance(name, str):
        raise TypeError(f"The name of a task must be a string, not {type(name).__name__}.")
    name = str.__str__(name)  # A subclass, such as a member of an enum, may have another `__str__`.
    if not 0 < len(name) <= MAX_NAME_LENGTH:
        raise ValueError(f"The name of a task must have 1 to {MAX_NAME_LENGTH} characters, not {len(name)}.")
    if not name.isprintable():  # Also refuses NUL and lone surrogates.
        raise ValueError(f"The name of a task must have printable characters only, unlike {name!r}.")
    return name


def _check_function(function: object) -> None:
    if isinstance(function, Task):
        raise TypeError(f"{function.place} is a task function already: use @bgtasks.task once.")
    if inspect.isclass(function) or not inspect.isroutine(function):
        raise TypeError(
            f"@bgtasks.task decorates a function (`async def` or `def`), not {function!r}. "
            "If this is an option, give it by its name."
        )
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise TypeError(
            f"{name_of(function)} is a generator, which a task does not iterate: write the loop inside the task."
        )


def _check_names(made: Task[..., Any]) -> None:
    for name in made.names:
        check_name(name)
        other = declared.get(name)
        if other is not None and not _is_same(other.func, made.func):
            owners = f"{_describe_owner(other, name)} and {_describe_owner(made, name)}"
            raise ValueError(
                f"Two task functions are called {name!r}: {owners}. "
                'Give one of them another name: @bgtasks.task(name="…").'
            )


def _check_sensitive(made: Task[..., Any]) -> None:
    parameters = made.signature.parameters
    for name in made.sensitive:
        if name not in parameters:
            there_are = f"There are: {', '.join(parameters)}" if parameters else "It has none"
            raise ValueError(f"sensitive names {name!r}, which is no parameter of {made.place}. {there_are}.")
    check_installed()


def _describe_owner(task: Task[..., Any], name: str) -> str:
    return task.place if name == task.name else f"{task.place}, which has it among its aliases,"


def _is_native(function: Any) -> bool:
    code = getattr(inspect.unwrap(function) if inspect.ismethod(function) else function, "__code__", None)
    return code is not None and bool(code.co_flags & inspect.CO_COROUTINE)


def _source_of(function: Any) -> tuple[str, int]:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return (code.co_filename, code.co_firstlineno) if code else ("built-in", 0)


def _is_same(one: Any, other: Any) -> bool:
    """Return whether both are one function, made twice: by a reload of its module, or by a factory."""
    if one.__module__ == other.__module__ == "__main__":  # Typed again at a prompt.
        return True
    return name_of(one) == name_of(other) and _source_of(one) == _source_of(other)
