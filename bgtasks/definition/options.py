"""
The options of a task function: their defaults, their valid values, and the combinations that are refused.

One list serves `@bgtasks.task(…)`, `.using(…)` and the column `options` of a row.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypedDict, get_args

from asgiref.sync import iscoroutinefunction

from .rate import parse_rate
from .versions import MAX_VERSION

OnLost = Literal["fail", "rerun"]
Growth = Literal["exponential", "linear", "constant"]
Conflict = Literal["existing", "error", "replace"]
# Returns the seconds until the next attempt, given the number of the failed attempt and its exception.
BackoffFunction = Callable[[int, BaseException], float]
Errors = type[BaseException] | tuple[type[BaseException], ...]

RERUN_ATTEMPTS = 3  # The default with on_lost="rerun". It stops a task that kills its process each time.
MAX_ATTEMPTS = 1000  # Each adds entries to the row's history, which is read and written as a whole.
MAX_QUEUE_LENGTH = 100  # The size of the column.
MAX_KEY_LENGTH = 200  # The size of the column.
LONGEST_DELAY = timedelta(days=3650)  # A later date is a mistake, and not every database can store it.


class UsingOptions(TypedDict, total=False):
    """The options of `.using(…)`: those that a row can store for the process that runs the task."""

    on_lost: OnLost
    stuck_after: float | None
    fire_on_commit: bool | None
    queue: str
    priority: int
    run_after: datetime | timedelta | None
    max_attempts: int | None
    backoff: Growth
    backoff_first: float
    backoff_cap: float
    backoff_jitter: bool
    timeout: float | None
    soft_timeout: float | None
    key: str | None
    unique_for: float | None
    on_conflict: Conflict
    rate_key: str


class TaskOptions(TypedDict, total=False):
    """The options of `@bgtasks.task(…)`: those of `.using(…)`, and those that only code can hold."""

    on_lost: OnLost
    stuck_after: float | None
    fire_on_commit: bool | None
    queue: str
    priority: int
    run_after: timedelta | None
    max_attempts: int | None
    backoff: Growth | BackoffFunction
    backoff_first: float
    backoff_cap: float
    backoff_jitter: bool
    retry_on: Errors
    give_up_on: Errors
    timeout: float | None
    soft_timeout: float | None
    on_soft_timeout: Callable[[], object] | None
    key: str | None
    unique_for: float | None
    on_conflict: Conflict
    max_running: int | None
    rate: str | None
    rate_key: str
    isolated: bool
    version: int
    aliases: Sequence[str]
    sensitive: Sequence[str]


# The checks. Each returns the value to store, or raises TypeError or ValueError.


def _one_of(words: tuple[str, ...], option: str, value: object, choices: str) -> object:
    for word in words:
        if word == value:
            return word  # Not `value`: it may be a member of an enum, which each database driver converts differently.
    raise ValueError(f"{option} must be {choices}, not {value!r:.120}.")


def _on_lost(option: str, value: object) -> object:
    return _one_of(get_args(OnLost), option, value, '"fail" or "rerun"')


def _flag(option: str, value: object) -> object:
    if value is not None and not isinstance(value, bool):
        raise TypeError(f"{option} must be True or False, not {value!r}.")
    return value


def _plain_flag(option: str, value: object) -> object:
    if not isinstance(value, bool):
        raise TypeError(f"{option} must be True or False, not {value!r}.")
    return value


def _seconds(option: str, value: object) -> object:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{option} must be a number of seconds, not {value!r}.")
    if not 0 < value <= LONGEST_DELAY.total_seconds():
        raise ValueError(
            f"{option} must be a number of seconds greater than 0 and at most {LONGEST_DELAY.total_seconds():.0f}, "
            f"not {value!r:.120}."
        )
    return int(value) if isinstance(value, int) else float(value)  # Not every driver accepts a subclass.


def _given_seconds(option: str, value: object) -> object:
    if value is None:
        raise TypeError(f"{option} must be a number of seconds, not None.")
    return _seconds(option, value)


def _queue(option: str, value: object) -> object:
    if not isinstance(value, str):
        raise TypeError(f"{option} must be the name of a queue, not {value!r}.")
    if not 0 < len(value) <= MAX_QUEUE_LENGTH or not value.isprintable():
        raise ValueError(f"{option} must have 1 to {MAX_QUEUE_LENGTH} printable characters, unlike {value!r:.120}.")
    return str.__str__(value)


def _key(option: str, value: object) -> object:
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f'{option} must be a string, such as f"welcome:{{user.pk}}", not {value!r:.120}.')
    if not 0 < len(value) <= MAX_KEY_LENGTH or not value.isprintable():
        raise ValueError(f"{option} must have 1 to {MAX_KEY_LENGTH} printable characters, unlike {value!r:.250}.")
    return str.__str__(value)


def _conflict(option: str, value: object) -> object:
    return _one_of(get_args(Conflict), option, value, '"existing", "error" or "replace"')


def _rate(option: str, value: object) -> object:
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f'{option} must be a string such as "5/s", not {value!r:.100}.')
    try:
        parse_rate(value)
    except ValueError as error:
        raise ValueError(f"{option} {error}.") from None
    return value


def _rate_key(option: str, value: object) -> object:
    return value if value == "" else _key(option, value) or ""


def _running(option: str, value: object) -> object:
    return None if value is None else _whole(1, 1_000_000)(option, value)


def _whole(least: int, most: int) -> Callable[[str, object], object]:
    def check(option: str, value: object) -> object:
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{option} must be a whole number, not {value!r}.")
        if not least <= value <= most:
            raise ValueError(f"{option} must be from {least} to {most}, not {value!r:.120}.")
        return int(value)

    return check


def _attempts(option: str, value: object) -> object:
    return None if value is None else _whole(1, MAX_ATTEMPTS)(option, value)


def _delay(option: str, value: object) -> object:
    if value is None:
        return None
    if isinstance(value, datetime):
        if value.tzinfo is None or value.utcoffset() is None:
            raise ValueError(
                f"{option} is {value!r}, which has no time zone: give an aware datetime, such as "
                "datetime.now(UTC) + timedelta(hours=1), or the timedelta alone."
            )
        delay = value - datetime.now(UTC)
    elif isinstance(value, timedelta):
        delay = value
    else:
        raise TypeError(f"{option} must be an aware datetime or a timedelta, not {value!r:.120}.")
    if delay > LONGEST_DELAY:
        raise ValueError(f"{option} must be at most {LONGEST_DELAY.days} days from now, not {value!r}.")
    return value


def _backoff(option: str, value: object) -> object:
    if callable(value):
        if iscoroutinefunction(value):
            raise TypeError(f"{option} is called on the event loop: give a plain function, not a coroutine function.")
        if not _takes(value, 1, Exception()):
            raise TypeError(
                f"{option} is called with the number of the attempt and the exception, which {value!r} does not accept."
            )
        return value
    return _one_of(get_args(Growth), option, value, '"exponential", "linear", "constant" or a function')


def _errors(option: str, value: object) -> object:
    kinds = value if isinstance(value, tuple) else (value,)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise TypeError(f"{option} must be an exception class or a tuple of them, not {kind!r}.")
    return kinds


def _hook(option: str, value: object) -> object:
    if value is None:
        return None
    if not callable(value) or iscoroutinefunction(value) or not _takes(value):
        raise TypeError(
            f"{option} is called on the task's event loop: give a plain function without parameters, not {value!r}."
        )
    return value


def _names(option: str, value: object) -> object:
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise TypeError(f'{option} must be a list or tuple of names, such as ("a name",), not {value!r:.120}.')
    return tuple(str.__str__(name) for name in value)


def _takes(function: Callable[..., object], *args: object) -> bool:
    """Return whether a function accepts these arguments; True if it has no signature."""
    try:
        inspect.signature(function).bind(*args)
    except TypeError:
        return False
    except ValueError:  # A builtin function may have no signature.
        return True
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """
    The options of a task function, with valid values.

    `@bgtasks.task(…)` takes all of them, `.using(…)` those of `UsingOptions`.

    Args:
        on_lost: the verdict on a task that is cut short because its process dies or shuts down. "fail": the task runs
            at most once, and ends as LOST or INTERRUPTED. "rerun": the task runs at least once, and any process may run
            it again, within `max_attempts`.
        stuck_after: seconds of running after which the task counts as stuck. None: the setting STUCK_AFTER.
        fire_on_commit: whether sync code inside `transaction.atomic()` writes the row in that transaction, so that the
            task starts after the commit. False: the task is fired at once. None: the setting FIRE_ON_COMMIT.
        queue: the name of the queue in which the task waits for a slot. `run_tasks --queue` serves selected queues.
        priority: from -100 to 100. Of the waiting tasks, those with a higher priority start first.
        run_after: the earliest start: an aware datetime, or a timedelta counted from the firing. Until then the task
            waits in the table. The decorator takes only a timedelta.
        max_attempts: the largest number of attempts, from 1 to 1000. If it is given, an attempt that raises is followed
            by another one. None: 1, or 3 with on_lost="rerun", and an attempt that raises ends the task.
        backoff: how the wait between attempts grows: "exponential", "linear" or "constant". Or a plain function that
            returns the seconds to wait, given the number of the failed attempt and its exception.
        backoff_first: seconds of the first wait.
        backoff_cap: seconds of the longest wait. The default of 600 is that of Celery.
        backoff_jitter: whether each wait is drawn at random between 0 and the wait of `backoff` ("full jitter",
            https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/), so that tasks that failed
            together are not retried together.
        retry_on: the exceptions that are followed by another attempt. By default every `Exception`.
        give_up_on: the exceptions among these that end the task.
        timeout: seconds after which an attempt is cancelled. It fails with a `TimeoutError`. For `async def` only.
        soft_timeout: seconds after which `current().soft_timeout_reached` is true for an attempt.
        on_soft_timeout: a plain function without parameters that is called at that time, on the task's event loop and
            in its context.
        key: at most one live task has this key, over all processes and task functions. A task with a key starts only
            after its row is committed.
        unique_for: seconds for which the key stays taken after the end of the task.
        on_conflict: the reaction to a key that is taken. "existing": the task is not fired, and `afire` returns the
            handle of the task that has the key. "error": the task is not fired, and `afire` raises `KeyConflict`.
            "replace": the other task is cancelled if it still waits, and this one takes its place; if the other task
            runs, `afire` raises `KeyConflict`.
        max_running: the largest number of these tasks that run at once in a process. The others wait in the table.
        rate: the largest number of these tasks that start in any period, over all processes: "5/s", "100/m", "10/30s".
            The others wait in the table.
        rate_key: tasks with the same `rate_key` are counted together for `rate`, for example all tasks that call an API
            with the same account. "": the tasks of each function are counted apart.
        isolated: whether the task has a database thread and connections of its own, so that it can hold a transaction
            open over an await. The setting MAX_ISOLATED limits how many such tasks run at once.
        version: the version of the function's arguments. Increase it when they change, and convert the arguments of
            older rows with `Task.migrate`.
        aliases: former names of the function. It runs the tasks that were fired under them.
        sensitive: names of parameters whose values are encrypted in the row, and hidden in logs, errors and the admin.
    """

    on_lost: OnLost = "fail"
    stuck_after: float | None = None
    fire_on_commit: bool | None = None
    queue: str = "default"
    priority: int = 0
    run_after: datetime | timedelta | None = None
    max_attempts: int | None = None
    backoff: Growth | BackoffFunction = "exponential"
    backoff_first: float = 1.0
    backoff_cap: float = 600.0
    backoff_jitter: bool = True
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    give_up_on: tuple[type[BaseException], ...] = ()
    timeout: float | None = None
    soft_timeout: float | None = None
    on_soft_timeout: Callable[[], object] | None = None
    key: str | None = None
    unique_for: float | None = None
    on_conflict: Conflict = "existing"
    max_running: int | None = None
    rate: str | None = None
    rate_key: str = ""
    isolated: bool = False
    version: int = 1
    aliases: tuple[str, ...] = ()
    sensitive: tuple[str, ...] = ()

    def changed(self, given: Mapping[str, Any], where: str, is_async: bool) -> Options:
        """
        Return a copy of these options with some of them changed.

        Args:
            given: the new values.
            where: the origin of the new values, "@bgtasks.task" or ".using".
            is_async: whether the function is `async def`.

        Raises:
            TypeError: an option that does not exist there, a value of a wrong type, or a timeout for a plain `def`.
            ValueError: an invalid value, or options that contradict each other.
        """
        kinds: Any = TaskOptions if where == "@bgtasks.task" else UsingOptions
        for option in given:
            if option not in kinds.__annotations__:
                raise TypeError(_unknown(option, where, kinds.__annotations__))
        if where == ".using" and callable(given.get("backoff")):
            raise TypeError(
                "backoff is a function, which a row cannot store for the process that runs the task: declare it with "
                "@bgtasks.task(backoff=…)."
            )
        changed = dataclasses.replace(self, **_checked(given))
        if where != ".using" and isinstance(given.get("run_after"), datetime):
            raise TypeError(
                "run_after is a moment, which comes only once: give it when you fire, .using(run_after=…), or declare "
                "a timedelta."
            )
        changed._check_together(is_async, given)
        return changed

    def restored(self, overrides: Mapping[str, Any], is_async: bool) -> Options:
        """
        Return a copy of these options with those of a row.

        Another release may have written the row. Therefore options may contradict each other here, and unknown options
        are ignored.

        Raises:
            TypeError, ValueError: an invalid value; the database is open to other programs.
        """
        known = {name: value for name, value in overrides.items() if name in _CHECKS}
        restored = dataclasses.replace(self, **_checked(known))
        return restored if is_async else dataclasses.replace(restored, timeout=None)

    def _check_together(self, is_async: bool, given: Mapping[str, Any]) -> None:
        """Raise for options that contradict each other, or that have no effect without another one."""
        self._check_timeouts(is_async)
        if self.isolated and not is_async:
            raise ValueError(
                "isolated is for `async def`: a plain `def` has a thread and connections to itself already."
            )
        if self.rate_key and self.rate is None:
            raise ValueError("rate_key has no effect without a rate: give rate=….")
        if self.key is None and (extra := _first_of(_OF_KEYS, given)):
            raise ValueError(f"{extra} has no effect without a key: give key=….")
        self._check_retries(given)

    def _check_timeouts(self, is_async: bool) -> None:
        if self.timeout is not None and not is_async:
            raise TypeError(
                "timeout cannot end a plain `def`, since its thread cannot be stopped: write it as `async def`, or "
                "give soft_timeout and have the function check bgtasks.current().soft_timeout_reached."
            )
        if self.timeout is not None and self.soft_timeout is not None and self.soft_timeout >= self.timeout:
            raise ValueError(
                f"soft_timeout ({self.soft_timeout:g} s) is not before timeout ({self.timeout:g} s), so the task "
                "would be cancelled without notice. Give a smaller one."
            )
        if self.on_soft_timeout is not None and self.soft_timeout is None:
            raise ValueError("on_soft_timeout is never called without soft_timeout: give its seconds.")

    def _check_retries(self, given: Mapping[str, Any]) -> None:
        if self.backoff_first > self.backoff_cap:
            raise ValueError(
                f"backoff_first ({self.backoff_first:g} s) is more than backoff_cap ({self.backoff_cap:g} s): give a "
                "larger cap."
            )
        if (self.max_attempts or 1) == 1 and (extra := _first_of(_OF_RETRIES, given)):
            raise ValueError(f"{extra} has no effect, since there is no second attempt: give max_attempts=2 or more.")
        if callable(self.backoff) and (extra := _first_of(_OF_GROWTH, given)):
            raise ValueError(f"{extra} has no effect on a backoff function: let the function return the final wait.")


_OF_KEYS = ("unique_for", "on_conflict")
_OF_GROWTH = ("backoff_first", "backoff_cap", "backoff_jitter")
_OF_RETRIES = ("backoff", "backoff_first", "backoff_cap", "backoff_jitter", "retry_on", "give_up_on")
_CHECKS: dict[str, Callable[[str, object], Any]] = {
    "on_lost": _on_lost,
    "stuck_after": _seconds,
    "fire_on_commit": _flag,
    "queue": _queue,
    "priority": _whole(-100, 100),
    "run_after": _delay,
    "max_attempts": _attempts,
    "backoff": _backoff,
    "backoff_first": _given_seconds,
    "backoff_cap": _given_seconds,
    "backoff_jitter": _plain_flag,
    "retry_on": _errors,
    "give_up_on": _errors,
    "timeout": _seconds,
    "soft_timeout": _seconds,
    "on_soft_timeout": _hook,
    "key": _key,
    "unique_for": _seconds,
    "on_conflict": _conflict,
    "max_running": _running,
    "rate": _rate,
    "rate_key": _rate_key,
    "isolated": _plain_flag,
    "version": _whole(1, MAX_VERSION),
    "aliases": _names,
    "sensitive": _names,
}
# The options of `.using(…)` that a row stores in its column `options`. Others have a column of their own, or no effect
# once the row is written. `max_attempts` has a column too, but the column does not show whether a 3 was given or is the
# default of on_lost="rerun".
STORED_OPTIONS = (
    "max_attempts",
    "backoff",
    "backoff_first",
    "backoff_cap",
    "backoff_jitter",
    "timeout",
    "soft_timeout",
)


def default_attempts(on_lost: OnLost) -> int:
    """Return the largest number of attempts of a task without `max_attempts`."""
    return RERUN_ATTEMPTS if on_lost == "rerun" else 1


def _checked(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _CHECKS[name](name, value) for name, value in given.items()}


def _first_of(options: Sequence[str], given: Mapping[str, Any]) -> str | None:
    return next((option for option in options if option in given), None)


def _unknown(option: str, where: str, known: Mapping[str, Any]) -> str:
    if option in _CHECKS:
        return f"{option} cannot be stored in a row: declare it with the function, @bgtasks.task({option}=…)."
    near = difflib.get_close_matches(option, known, n=1)
    fix = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(sorted(known))}."
    return f"{where} has no option {option!r}. {fix}"
