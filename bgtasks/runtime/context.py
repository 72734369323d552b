"""`bgtasks.current()`: what a task may ask of itself."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from uuid import UUID

from .record import Record

if TYPE_CHECKING:
    from .runner import Runner  # For the type only: the runner imports this module.

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

    def __repr__(self) -> str:
        return f"<TaskContext {self.name} {self.id} attempt {self.attempt}>"


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
