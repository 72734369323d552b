"""`bgtasks.current()`: the running task, as its own code sees it."""

from __future__ import annotations

import json
import time
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import UUID

from ..definition import arguments
from ..process.extras import Extras
from ..process.record import Record

MAX_NOTE = 200  # Characters.
MAX_PROGRESS = 1e15  # Up to here JSON, JavaScript and the databases are exact to the unit.
MAX_CHECKPOINT_BYTES = 256 * 1024


class ProgressListener(Protocol):
    """The writer of the rows of running tasks, as their own code sees it."""

    def write_soon(self, record: Record) -> None:
        """Write the progress of a task within an interval."""

    def write(self, record: Record) -> None:
        """Write a change of a task's extras at once."""


class TaskOwner(Protocol):
    """The executor of a running task, as the task's own code sees it."""

    @property
    def is_draining(self) -> bool:
        """Whether the process is shutting down."""

    @property
    def progress(self) -> ProgressListener:
        """The writer of the task's progress and checkpoints."""


# Set in the attempt's own context, which the asyncio tasks that it starts inherit.
attempt_variable: ContextVar[tuple[TaskOwner, Record]] = ContextVar("bgtasks_attempt")

# The ASGI scope of the current request, set by `Lifespan`. It is recorded with the tasks that the request fires.
scope_variable: ContextVar[dict[str, Any] | None] = ContextVar("bgtasks_scope", default=None)


class TaskContext:
    """The running task, for its own code."""

    __slots__ = ("_owner", "_record")

    def __init__(self, owner: TaskOwner, record: Record) -> None:
        self._owner = owner
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
        """Whether this process is shutting down, so that a long task should come to its end."""
        return self._owner.is_draining

    @property
    def cancel_requested(self) -> bool:
        """Whether this task was cancelled, on request or for another reason."""
        return self._record.cancel_reason is not None

    @property
    def soft_timeout_reached(self) -> bool:
        """Whether this attempt has taken longer than `soft_timeout`, and should save its results and end."""
        return self._record.is_past_soft_timeout

    @property
    def deadline(self) -> datetime | None:
        """The moment at which `timeout` ends this attempt. None: it has no timeout."""
        deadline = self._record.deadline
        return None if deadline is None else datetime.fromtimestamp(deadline, UTC)

    def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """
        Report the progress of this task, for the admin and other readers of its row.

        Calls are cheap, also a million of them: the row is written at most every POLL_INTERVAL, and at the end.

        Args:
            done: the finished amount of work, in any unit.
            total: the whole amount, in the same unit. None: it is not known.
            note: the current step, up to 200 characters. The rest is cut off.

        Raises:
            TypeError: an amount is not a number, or the note not a string.
            ValueError: an amount is negative or infinite.
        """
        _check_number("done", done)
        if total is not None:
            _check_number("total", total)
        if not isinstance(note, str):
            raise TypeError(f"progress: note is a string, not {note!r:.100}.")
        self._extras().told = (done, total, note[:MAX_NOTE], time.time())
        self._owner.progress.write_soon(self._record)

    @property
    def checkpoint(self) -> Any:
        """The value of the last `set_checkpoint`, in this attempt or an earlier one. None: there is none."""
        extras = self._record.extras
        return json.loads(extras.checkpoint) if extras is not None and extras.checkpoint is not None else None

    def set_checkpoint(self, value: Any) -> None:
        """
        Store the position of this task, so that the next attempt, in any process, can go on from there.

        It is committed within milliseconds, as a fired task is. With `None` the next attempt starts from the beginning.

        Args:
            value: plain data that JSON can hold, up to 256 KiB.

        Raises:
            TypeError: JSON cannot hold the value.
            ValueError: the value is too large, or has content that databases cannot hold.
        """
        try:
            text = arguments.encode_value(value)
        except TypeError as error:
            kind = type(value).__name__
            raise TypeError(
                f"set_checkpoint: the value is a {kind} that JSON cannot hold ({error}). Store plain data, such as a "
                "position or a primary key."
            ) from None
        except ValueError as error:
            raise ValueError(f"set_checkpoint: the value {arguments.describe_problem(error)}.") from None
        if len(text) > MAX_CHECKPOINT_BYTES:
            raise ValueError(
                f"set_checkpoint: the value takes {len(text)} bytes as JSON, more than {MAX_CHECKPOINT_BYTES}. Store "
                "the data elsewhere, and only its place in the checkpoint."
            )
        extras = self._extras()
        extras.checkpoint = text
        self._owner.progress.write(self._record)

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
    Return the task whose code calls this.

    Raises:
        RuntimeError: outside a task.
    """
    try:
        owner, record = attempt_variable.get()
    except LookupError:
        raise RuntimeError("bgtasks.current() is called outside a task. Only the code of a task can call it.") from None
    return TaskContext(owner, record)


def is_inside_live_task() -> bool:
    """Return whether a task whose attempt still counts runs the calling code."""
    found = attempt_variable.get(None)
    return found is not None and found[1].is_live
