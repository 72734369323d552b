"""`bgtasks.current()`: what a task may ask of itself."""

from __future__ import annotations

import json
import time
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ..definition import arguments
from ..process.extras import Extras
from ..process.record import Record

if TYPE_CHECKING:
    from .runner import Runner  # For the type only: the runner imports this module.

MAX_NOTE = 200  # Characters.
MAX_PROGRESS = 1e15  # What JSON, JavaScript and the databases all hold to the unit.
MAX_CHECKPOINT_BYTES = 256 * 1024

# Set in the attempt's own context, so that what the task starts by itself inherits it.
attempt_variable: ContextVar[tuple[Runner, Record]] = ContextVar("bgtasks_attempt")

# The ASGI scope of the request in which something is fired; set by `Lifespan`.
scope_variable: ContextVar[dict[str, Any] | None] = ContextVar("bgtasks_scope", default=None)


class TaskContext:
    """The task that is running here."""

    __slots__ = ("_record", "_runner")

    def __init__(self, runner: Runner, record: Record) -> None:
        self._runner = runner
        self._record = record

    @property
    def id(self) -> UUID:
        return self._record.id

    @property
    def name(self) -> str:
        return self._record.name

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        return self._record.attempt

    @property
    def draining(self) -> bool:
        """Whether this process is shutting down: a long task does well to come to an end."""
        return self._runner.draining

    @property
    def cancel_requested(self) -> bool:
        """Whether this task has been asked to stop."""
        return self._record.cancel_reason is not None

    @property
    def soft_timeout_reached(self) -> bool:
        """Whether this attempt has taken longer than its `soft_timeout`: save what there is and come to an end."""
        return self._record.is_past_soft_timeout

    @property
    def deadline(self) -> datetime | None:
        """When `timeout` ends this attempt. None: never."""
        deadline = self._record.deadline
        return None if deadline is None else datetime.fromtimestamp(deadline, UTC)

    def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """
        Tell how far it is, for the admin and whoever looks at the row. Cheap: call it as often as you like.

        The row is written at most every POLL_INTERVAL, and at the end.

        Args:
            done: how much is done, in any unit.
            total: how much there is to do, in the same unit. None: not known.
            note: what it is at, up to 200 characters; the rest is cut off.

        Raises:
            TypeError, ValueError: for what is no number, or a negative or infinite one.
        """
        _check_number("done", done)
        if total is not None:
            _check_number("total", total)
        if not isinstance(note, str):
            raise TypeError(f"progress: note is a string, not {note!r:.100}.")
        self._extras().told = (done, total, note[:MAX_NOTE], time.time())
        self._runner.note_progress(self._record)

    @property
    def checkpoint(self) -> Any:
        """What `set_checkpoint` kept last, in this attempt or an earlier one. None: nothing."""
        extras = self._record.extras
        return json.loads(extras.checkpoint) if extras is not None and extras.checkpoint is not None else None

    def set_checkpoint(self, value: Any) -> None:
        """
        Keep where it is, so that the next attempt, in whichever process, can go on from there.

        Committed within milliseconds, as `fire` is; `None` has the next attempt begin anew.

        Args:
            value: plain data that JSON can hold, up to 256 KiB of it.

        Raises:
            TypeError, ValueError: it is nothing that JSON can hold, or too large.
        """
        try:
            text = arguments.encode_value(value)
        except TypeError as error:
            kind = type(value).__name__
            raise TypeError(
                f"set_checkpoint: the value is a {kind} that JSON cannot hold ({error}). Keep plain data, such as a "
                "position or a primary key."
            ) from None
        except ValueError as error:
            raise ValueError(f"set_checkpoint: the value {arguments.describe_problem(error)}.") from None
        if len(text) > MAX_CHECKPOINT_BYTES:
            raise ValueError(
                f"set_checkpoint: the value takes {len(text)} bytes as JSON, more than {MAX_CHECKPOINT_BYTES}. Store "
                "the data elsewhere and keep where it is."
            )
        extras = self._extras()
        extras.checkpoint = text
        extras.version += 1
        if self._runner.registry.holds(self._record):
            self._runner.journal.put_again(self._record)

    def _extras(self) -> Extras:
        if self._record.extras is None:
            self._record.extras = Extras()
        return self._record.extras

    def __repr__(self) -> str:
        return f"<TaskContext {self.name} {self.id} attempt {self.attempt}>"


def _check_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"progress: {name} is a number, not {value!r:.100}.")
    if not (0 <= value <= MAX_PROGRESS):
        raise ValueError(f"progress: {name} is a finite number of at least 0, not {value!r:.100}.")


def current() -> TaskContext:
    """
    Return the task in which this is called.

    Raises:
        RuntimeError: outside a task.
    """
    try:
        runner, record = attempt_variable.get()
    except LookupError:
        raise RuntimeError("bgtasks.current() is called outside a task: only code that a task runs has one.") from None
    return TaskContext(runner, record)


def is_inside_live_task() -> bool:
    found = attempt_variable.get(None)
    return found is not None and found[1].is_live
