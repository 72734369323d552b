"""
The options of a task function: their defaults, what they may be, and what contradicts what.

One list for `@bgtasks.task(…)`, `.using(…)` and a row's `options`. Knows nothing of databases and loops.
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
# Seconds until the next attempt, from the number of the attempt that failed and what it raised.
BackoffFunction = Callable[[int, BaseException], float]
Errors = type[BaseException] | tuple[type[BaseException], ...]

RERUN_ATTEMPTS = 3  # The bound that keeps a task that kills its process from looping for ever.
MAX_ATTEMPTS = 1000  # Each leaves its mark in the row's history, which is read and written whole.
MAX_QUEUE_LENGTH = 100  # As the row's column.
MAX_KEY_LENGTH = 200  # As the row's column.
LONGEST_DELAY = timedelta(days=3650)  # Further away a date is a mistake, and some database cannot hold it.


class UsingOptions(TypedDict, total=False):
    """What `.using(…)` takes: what a row can keep, so that whichever process runs the task knows it."""

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
    """What `@bgtasks.task(…)` takes: all that `.using(…)` does, and what only code can say."""

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


# The checks: each returns the value as it is kept, or raises.


def _one_of(words: tuple[str, ...], option: str, value: object, told: str) -> object:
    for word in words:
        if word == value:
            return word  # Not `value`, which may be an enum's member: each driver makes something else of it.
    raise ValueError(f"{option} is {told}, not {value!r:.120}.")


def _on_lost(option: str, value: object) -> object:
    return _one_of(get_args(OnLost), option, value, '"fail" or "rerun"')


def _flag(option: str, value: object) -> object:
    if value is not None and not isinstance(value, bool):
        raise TypeError(f"{option} is True or False, not {value!r}.")
    return value


def _plain_flag(option: str, value: object) -> object:
    if not isinstance(value, bool):
        raise TypeError(f"{option} is True or False, not {value!r}.")
    return value


def _seconds(option: str, value: object) -> object:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{option} is a number of seconds, not {value!r}.")
    if not 0 < value <= LONGEST_DELAY.total_seconds():
        raise ValueError(
            f"{option} is a number of seconds greater than 0, at most {LONGEST_DELAY.total_seconds():.0f}, not "
            f"{value!r:.120}."
        )
    return int(value) if isinstance(value, int) else float(value)  # A subclass is nothing that each driver takes.


def _given_seconds(option: str, value: object) -> object:
    if value is None:
        raise TypeError(f"{option} is a number of seconds, not None.")
    return _seconds(option, value)


def _queue(option: str, value: object) -> object:
    if not isinstance(value, str):
        raise TypeError(f"{option} is the name of a queue, not {value!r}.")
    if not 0 < len(value) <= MAX_QUEUE_LENGTH or not value.isprintable():
        raise ValueError(f"{option} is a name of 1 to {MAX_QUEUE_LENGTH} printable characters, not {value!r:.120}.")
    return str.__str__(value)


def _key(option: str, value: object) -> object:
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f'{option} is a string, such as f"welcome:{{user.pk}}", not {value!r:.120}.')
    if not 0 < len(value) <= MAX_KEY_LENGTH or not value.isprintable():
        raise ValueError(f"{option} has 1 to {MAX_KEY_LENGTH} printable characters, unlike {value!r:.250}.")
    return str.__str__(value)


def _conflict(option: str, value: object) -> object:
    return _one_of(get_args(Conflict), option, value, '"existing", "error" or "replace"')


def _rate(option: str, value: object) -> object:
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f'{option} is a string such as "5/s", not {value!r:.100}.')
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
            raise TypeError(f"{option} is a whole number, not {value!r}.")
        if not least <= value <= most:
            raise ValueError(f"{option} is {least} to {most}, not {value!r:.120}.")
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
                f"{option} is {value!r}, which has no time zone: give an aware moment, such as "
                "datetime.now(UTC) + timedelta(hours=1), or the timedelta alone."
            )
        delay = value - datetime.now(UTC)
    elif isinstance(value, timedelta):
        delay = value
    else:
        raise TypeError(f"{option} is an aware datetime or a timedelta, not {value!r:.120}.")
    if delay > LONGEST_DELAY:
        raise ValueError(f"{option} is at most {LONGEST_DELAY.days} days from now, not {value!r}.")
    return value


def _backoff(option: str, value: object) -> object:
    if callable(value):
        if iscoroutinefunction(value):
            raise TypeError(f"{option} is computed on the event loop: give a plain function, no coroutine function.")
        if not _takes(value, 1, Exception()):
            raise TypeError(f"{option} is called with the number of the attempt and the exception, unlike {value!r}.")
        return value
    return _one_of(get_args(Growth), option, value, '"exponential", "linear", "constant" or a function')


def _errors(option: str, value: object) -> object:
    kinds = value if isinstance(value, tuple) else (value,)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise TypeError(f"{option} is an exception class or a tuple of them, not {kind!r}.")
    return kinds


def _hook(option: str, value: object) -> object:
    if value is None:
        return None
    if not callable(value) or iscoroutinefunction(value) or not _takes(value):
        raise TypeError(
            f"{option} is a plain function without parameters, called on the task's event loop, not {value!r}."
        )
    return value


def _names(option: str, value: object) -> object:
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise TypeError(f'{option} is a list or tuple of names, such as ("a name",), not {value!r:.120}.')
    return tuple(str.__str__(name) for name in value)


def _takes(function: Callable[..., object], *args: object) -> bool:
    """Tell whether a function can be called so, as far as it tells its parameters."""
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
    The options of a task function, checked.

    Args:
        on_lost: what becomes of a task whose process dies while it runs: "fail" (at most once: it ends as LOST) or
            "rerun" (at least once: any process runs it again, within `max_attempts`).
        stuck_after: seconds of running after which it is called stuck. None: the setting STUCK_AFTER.
        fire_on_commit: whether sync code inside `transaction.atomic()` writes the row in that transaction, and the
            task starts after its commit; else it is fired at once. None: the setting FIRE_ON_COMMIT.
        queue: the name of the queue it waits in when it waits; `run_tasks --queue` takes only some.
        priority: -100 to 100; of what waits, the higher starts first.
        run_after: when it may start: an aware moment, or a timedelta from when it is fired. It waits in the table.
        max_attempts: how often it is started at most, 1 to 1000. Given, an attempt that raises is followed by another.
            None: 1, or 3 with on_lost="rerun", and what it raises ends it.
        backoff: how the wait between two attempts grows, or a function that returns its seconds from the number of the
            attempt that failed and the exception.
        backoff_first: seconds of the first wait.
        backoff_cap: seconds of the longest wait. 600 by default, as Celery has it.
        backoff_jitter: whether the wait is drawn between 0 and what `backoff` says ("full jitter",
            https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/), so that what failed together
            does not come back together.
        retry_on: the exceptions that are followed by another attempt. By default each `Exception`.
        give_up_on: of these the ones that are not.
        timeout: seconds of an attempt after which it is cancelled, and FAILED with a `TimeoutError`.
        soft_timeout: seconds of an attempt after which `current().soft_timeout_reached` is true.
        on_soft_timeout: a plain function that is called then, on the task's event loop and in its context.
        key: at most one live task has it, over all processes and functions. It starts only once its row is committed.
        unique_for: seconds after its end for which the key stays taken.
        on_conflict: what becomes of it when the key is taken: it is not fired, and `afire` returns the handle of the
            task that has the key ("existing") or raises `KeyConflict` ("error"); or it takes the place of one that
            waits ("replace"), and is as "error" beside one that runs.
        max_running: how many of it run at once in a process. More wait in the table.
        rate: how many of it start in any period, over all processes: "5/s", "100/m", "10/30s". More wait in the table.
        rate_key: count them with all that have the same, such as one account of an API, instead of by function.
        isolated: whether it has a database thread and connections to itself, for a transaction that is held open over
            an await. So many run at once as the setting MAX_ISOLATED says.
        version: of its arguments. Count it up when they change, and say what becomes of the older ones: `Task.migrate`.
        aliases: names that the function had before: what was fired under them is run by it.
        sensitive: names of parameters whose values are encrypted where they are kept, and shown nowhere.
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
        Return these options with others in their stead.

        Args:
            where: what was called, as it is written: "@bgtasks.task" or ".using".
            is_async: whether the function is `async def`.

        Raises:
            TypeError: an option that does not exist there, a value of a wrong type, or a timeout for a plain `def`.
            ValueError: a value that an option cannot have, or options that contradict each other.
        """
        kinds: Any = TaskOptions if where == "@bgtasks.task" else UsingOptions
        for option in given:
            if option not in kinds.__annotations__:
                raise TypeError(_unknown(option, where, kinds.__annotations__))
        if where == ".using" and callable(given.get("backoff")):
            raise TypeError(
                "backoff is a function, which no row can keep for the process that runs the task: declare it with "
                "@bgtasks.task(backoff=…)."
            )
        changed = dataclasses.replace(self, **_checked(given))
        if where != ".using" and isinstance(given.get("run_after"), datetime):
            raise TypeError(
                "run_after is a moment, which comes once: give it when you fire, .using(run_after=…), or declare a "
                "timedelta."
            )
        changed._check_together(is_async, given)
        return changed

    def restored(self, overrides: Mapping[str, Any], is_async: bool) -> Options:
        """
        Return these options with those of a row in their stead.

        Another release may have written the row, before the function was declared as it is now. So what contradicts
        the declaration stops nothing, and an option that is not known here is left out.

        Raises:
            TypeError, ValueError: a value that an option cannot have; anybody may have written the row.
        """
        known = {name: value for name, value in overrides.items() if name in _CHECKS}
        restored = dataclasses.replace(self, **_checked(known))
        return restored if is_async else dataclasses.replace(restored, timeout=None)

    def _check_together(self, is_async: bool, given: Mapping[str, Any]) -> None:
        if self.timeout is not None and not is_async:
            raise TypeError(
                "timeout cannot end a plain `def`, whose thread nobody can stop: write it as `async def`, or give "
                "soft_timeout and have the function look at bgtasks.current().soft_timeout_reached."
            )
        if self.timeout is not None and self.soft_timeout is not None and self.soft_timeout >= self.timeout:
            raise ValueError(
                f"soft_timeout ({self.soft_timeout:g} s) is not before timeout ({self.timeout:g} s): the task would "
                "never hear of it. Give a smaller one."
            )
        if self.on_soft_timeout is not None and self.soft_timeout is None:
            raise ValueError("on_soft_timeout is never called without soft_timeout: give its seconds.")
        if self.backoff_first > self.backoff_cap:
            raise ValueError(
                f"backoff_first ({self.backoff_first:g} s) is more than backoff_cap ({self.backoff_cap:g} s): give a "
                "larger cap."
            )
        if self.isolated and not is_async:
            raise ValueError(
                "isolated is for `async def`: a plain `def` has a thread and connections to itself already."
            )
        if self.rate_key and self.rate is None:
            raise ValueError("rate_key says what a rate is counted by, and there is none: give rate=….")
        if self.key is None and (told := [name for name in ("unique_for", "on_conflict") if name in given]):
            raise ValueError(f"{told[0]} says how a key is unique, and there is none: give key=….")
        told = [name for name in _OF_RETRIES if name in given]
        if told and (self.max_attempts or 1) == 1:
            raise ValueError(
                f"{told[0]} says when to try again, and there is no second attempt: give max_attempts=2 or more."
            )

        told = [name for name in _OF_GROWTH if name in given]
        if told and callable(self.backoff):
            raise ValueError(f"{told[0]} says nothing to a function: have backoff return what it should.")


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
# What a row keeps of `.using(…)` in its column `options`; the others have columns of their own, or matter only before.
# `max_attempts` has a column too, and that does not tell 3 that somebody gave from the 3 of on_lost="rerun".
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
    """Return how often a task is started at most, where no `max_attempts` says so."""
    return RERUN_ATTEMPTS if on_lost == "rerun" else 1


def _checked(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _CHECKS[name](name, value) for name, value in given.items()}


def _unknown(option: str, where: str, known: Mapping[str, Any]) -> str:
    if option in _CHECKS:
        return f"{option} cannot be kept in a row: declare it with the function, @bgtasks.task({option}=…)."
    near = difflib.get_close_matches(option, known, n=1)
    fix = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(sorted(known))}."
    return f"{where} has no option {option!r}. {fix}"
