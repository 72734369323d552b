"""The settings: a frozen dataclass made from the dictionary `BGTASKS` in the settings of the project."""

from __future__ import annotations

import dataclasses
import difflib
import functools
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from .definition.options import MAX_QUEUE_LENGTH


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The keys of `BGTASKS`, which are in upper case there. Durations are in seconds, sizes in bytes."""

    heartbeat: float = 5  # Between two beats of a process.
    dead_after: float = 20  # A process without a new beat, observed for this long, is dead.
    poll_interval: float = 0.5  # Between two looks for requests and for waiting tasks.
    drain_timeout: float = 20  # Running tasks may go on for this long after the start of a drain.
    cancel_grace: float = 5  # Then they are cancelled, and have this long to clean up.
    flush_timeout: float = 3  # Then their last states are written, within this time.
    max_running: int = 500  # Tasks running at once in a process; more wait in the table.
    db_lanes: int | None = None  # Database threads for the tasks' ORM calls. None: 1 on SQLite, 4 elsewhere.
    sync_threads: int = 4  # Threads for plain `def` task functions.
    max_isolated: int = 4  # Tasks with isolated=True running at once in a process, each with a database thread.
    queues: dict[str, Any] = dataclasses.field(default_factory=dict)  # {name: {"MAX_RUNNING": …, "MAX_WAITING": …}}.
    write_timeout: float = 5  # `afire` waits this long for its row to be committed.
    max_unwritten: int = 20_000  # Records that may wait in memory while the database is away.
    stuck_after: float | None = None  # A task running for longer is stuck, unless it declares its own limit.
    stuck_waiting_after: float = 300  # A task waiting for longer is stuck.
    blocked_after: float = 1  # An event loop that does not answer for this long is blocked.
    max_args_bytes: int = 256 * 1024  # Of the arguments of a task as JSON.
    max_result_bytes: int = 64 * 1024  # Of the result of a task as JSON; a larger one is not stored.
    retention: float = 14 * 86400  # Finished tasks are kept for this long.
    retention_failed: float = 90 * 86400  # Failed, interrupted and lost ones for this long.
    record_fired_by: bool = True  # Record the request that fired a task.
    release: str = ""  # The running version of the project, as shown in the admin.
    spool_path: str | Path | None = None  # Where unwritten records go at exit. None: a temporary folder.
    fire_on_commit: bool = True  # Sync code in a transaction: the row is written in it, the start follows its commit.

    @property
    def ending_seconds(self) -> float:
        """The time from the moment at which a drain cancels the running tasks to its deadline."""
        return self.cancel_grace + self.flush_timeout


def _allowed_types(hint: Any) -> tuple[type, ...]:
    origin = get_origin(hint)
    return (origin,) if isinstance(origin, type) and issubclass(origin, dict) else getattr(hint, "__args__", (hint,))


def _is_instance(value: object, hint: Any) -> bool:
    allowed = _allowed_types(hint)
    if isinstance(value, bool):  # To Python True is an int, in settings it is a mistake.
        return bool in allowed
    if isinstance(value, int) and float in allowed:
        return True
    return isinstance(value, allowed)


MAX_RELEASE_LENGTH = 100  # The length of the column.
MAY_BE_ZERO = frozenset({"drain_timeout", "cancel_grace", "flush_timeout", "max_result_bytes"})


def find_problems(values: object) -> list[tuple[str, str]]:
    """Return the problems of the dictionary `values`, each as (problem, fix)."""
    if not isinstance(values, dict):
        return [(f"BGTASKS is a {type(values).__name__}, not a dictionary.", "Write BGTASKS = {…}.")]
    hints = get_type_hints(Settings)
    known = [name.upper() for name in hints]
    problems = []
    for key, value in values.items():
        name = key.lower() if isinstance(key, str) and key == key.upper() else ""
        if name not in hints:
            near = difflib.get_close_matches(str(key).upper(), known, n=1)
            fix = f"Did you mean {near[0]!r}?" if near else f"Known keys: {', '.join(sorted(known))}."
            problems.append((f"BGTASKS has an unknown key {key!r}.", fix))
        elif not _is_instance(value, hints[name]):
            wanted = " or ".join(
                "None" if kind is type(None) else kind.__name__ for kind in _allowed_types(hints[name])
            )
            problems.append(
                (f"BGTASKS[{key!r}] is {value!r}, not of type {wanted}.", f"Give a value of type {wanted}.")
            )
        elif isinstance(value, int | float) and not isinstance(value, bool):
            least = "at least 0" if name in MAY_BE_ZERO else "greater than 0"
            if not (value > 0 or (value == 0 and name in MAY_BE_ZERO)) or value == float("inf"):
                problems.append((f"BGTASKS[{key!r}] is {value!r}.", f"Give a finite number {least}."))
    if not problems:
        problems += _find_contradictions(Settings(**{key.lower(): value for key, value in values.items()}))
    return problems


QUEUE_BOUNDS = ("MAX_RUNNING", "MAX_WAITING")


def _find_problems_of_queues(queues: dict[Any, Any]) -> list[tuple[str, str]]:
    shape = 'Write QUEUES = {"mail": {"MAX_RUNNING": 5, "MAX_WAITING": 1000}}, with one or both of them.'
    problems = []
    for name, bounds in queues.items():
        place = f"BGTASKS['QUEUES'][{name!r}]"
        if not isinstance(name, str) or not name or len(name) > MAX_QUEUE_LENGTH:
            problems.append((f"{place} is not the name of a queue.", shape))
        elif not isinstance(bounds, dict):
            problems.append((f"{place} is {bounds!r}, not a dictionary.", shape))
        else:
            for bound, value in bounds.items():
                if bound not in QUEUE_BOUNDS:
                    problems.append((f"{place} has an unknown key {bound!r}.", shape))
                elif isinstance(value, bool) or not isinstance(value, int) or value < 1:
                    problems.append((f"{place}[{bound!r}] is {value!r}.", "Give a whole number of at least 1."))
    return problems


def _find_contradictions(settings: Settings) -> list[tuple[str, str]]:
    if problems := _find_problems_of_queues(settings.queues):
        return problems
    if len(settings.release) > MAX_RELEASE_LENGTH:
        return [
            (f"BGTASKS['RELEASE'] is longer than {MAX_RELEASE_LENGTH} characters.", "Give a version or a commit id.")
        ]
    if settings.dead_after < 2 * settings.heartbeat:
        return [
            (
                f"BGTASKS: DEAD_AFTER ({settings.dead_after} s) is less than two HEARTBEATs ({settings.heartbeat} s): "
                "living processes would be taken for dead.",
                "Set DEAD_AFTER to at least four times HEARTBEAT.",
            )
        ]
    return []


@functools.cache
def get_settings() -> Settings:
    """
    Return the project's settings.

    Raises:
        ImproperlyConfigured: with all problems and their fixes.
    """
    values = getattr(django_settings, "BGTASKS", {})
    if problems := find_problems(values):
        raise ImproperlyConfigured(" ".join(f"{problem} {fix}" for problem, fix in problems))
    return Settings(**{key.lower(): value for key, value in values.items()})


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting == "BGTASKS":
        get_settings.cache_clear()


setting_changed.connect(_forget)  # `override_settings` in tests.
