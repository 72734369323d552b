"""The `Record`: a task in the memory of this process, from `fire` until its last state is written."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol
from uuid import UUID

from ..definition import Task, arguments
from ..definition.sensitive import Hide, make_hide
from ..exceptions import (
    KeyConflict,
    RolledBack,
    TaskCancelled,
    TaskFailed,
    TaskInterrupted,
    TaskLost,
    TaskNotFound,
)
from ..failure import Failure
from ..status import Status
from .extras import Extras
from .locale import Locale

# A change of status: (status, seconds since the epoch, attempt, reason). A bare tuple: each `fire` makes one, and a
# named tuple takes three times as long.
Entry = tuple[Status, float, int, str]
Refusal = RolledBack | KeyConflict | TaskNotFound

NO_CONTEXT = contextvars.Context()  # Of a record that has ended.
NO_LOOP: Any = None  # Of a record that does not run in this process, or has not been admitted yet.

ERRORS = {
    Status.FAILED: (TaskFailed, "failed"),
    Status.CANCELLED: (TaskCancelled, "was cancelled"),
    Status.INTERRUPTED: (TaskInterrupted, "was interrupted by a drain"),
    Status.LOST: (TaskLost, "was lost with its process"),
}


class PassedGate(Protocol):
    """A limit that a task has passed. It gets its place back at the end of the attempt, from any thread."""

    @property
    def is_wanted(self) -> bool:
        """Whether tasks may wait in the table for this place."""

    def give_back(self) -> None:
        """Return the place."""


class Record:
    """
    One task in memory.

    The thread of its loop changes it, and the journal's thread reads it. Three rules make that safe: `history` only
    grows, its last entry decides the status, and all that belongs to a status (a failure, a result) is set before the
    entry is appended.
    """

    # Attributes that few tasks ever set. As class attributes they cost a task neither time nor memory.
    coroutine: Coroutine[Any, Any, Any] | None = None
    function: Task[..., Any] | None = None  # Of a coroutine function that is no task function: for its signature.
    asyncio_task: asyncio.Task[Any] | None = None
    when_never_begun: Callable[[asyncio.Task[None]], None] | None = None  # The done callback, until the first step.
    encoded: tuple[str, str] | None = None  # The arguments as JSON. None: plain values, not encoded yet.
    prior: Sequence[Any] = ()  # The history of its row up to the claim, if this process claimed it.
    offset = 0  # The number of entries of `history` that are in `prior` already.
    value: Any = None
    result_text: str | None = None  # The result as JSON.
    error: BaseException | None = None
    failure: Failure | None = None
    reason = ""  # Why it did not succeed, from its row, when it ended in another process.
    unfit = ""  # Why the arguments of a claimed row cannot be used at all.
    refusal: Refusal | None = None  # Set when there is no such task: it was not fired after all, or its row is gone.
    fired_with = ("", "")  # The fingerprint and the release in a claimed row: those of the code that fired it.
    locale: Locale | None = None  # The caller's language and time zone, when another thread fired it.
    is_stripped = False  # Whether its row lacks its arguments, which the database refused: it cannot run again.
    extras: Extras | None = None  # The values of columns that only some tasks use.
    gates: tuple[PassedGate, ...] = ()  # The limits it has passed, given back together with its slot.
    scope: Any = None  # The ASGI scope of the request that fired it.
    cancel_reason: str | None = None  # Why this process cancelled it: "asked", "drain", "taken" or "timeout".
    deadline: float | None = None  # The moment at which `timeout` ends its attempt, in seconds since the epoch.
    timed_out_at: str = ""  # The place where it waited when its time was over, as text.
    is_past_soft_timeout = False
    ignores_since = 0.0  # Since when it ignores its cancellation, in seconds since the epoch.
    thread_id: int | None = None  # The thread that a plain `def` function runs on.
    is_recorded_first = False  # Whether it starts only once its first write is committed.
    acknowledgement: asyncio.Future[bool] | None = None  # For `afire`: whether it was committed in time.
    waiters: list[Callable[[], None]] | None = None
    token: list[None] | None = None  # See `take`.
    is_queued = True  # Whether the journal has, or will have, something to write for it. Guarded by order, see Journal.
    is_started = False
    is_taken = False  # Whether other processes gave it a verdict, having declared this process dead.
    # The journal's own notes.
    is_sent = False  # Whether its first write took the token.
    written: tuple[Status, int] | None = None  # The status and attempt of its row.
    write_at = 0.0  # The earliest moment to write it, on the monotonic clock.
    refusals = 0  # The number of times that the database refused it alone.
    is_put_off = False  # Whether another transaction used its key, so that it waits until `write_at`.
    may_be_stored = False  # Whether the answer to the COMMIT of its first write was lost.
    announced = 0  # The number of entries of the history that were sent as signals.

    def __init__(
        self,
        number: int,
        name: str,
        task: Task[..., Any] | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        loop: asyncio.AbstractEventLoop,
        context: contextvars.Context,
        entry: Entry,
    ) -> None:
        self.number = number  # The id as an integer: a UUID takes longer to make than the number itself.
        self.name = name
        self.task = task  # None for a coroutine object, which cannot run again.
        self.args = args
        self.kwargs = kwargs
        self.loop = loop
        self.context = context
        self.history: list[Entry] = [entry]

    @property
    def id(self) -> UUID:
        return UUID(int=self.number)

    @property
    def status(self) -> Status:
        return self.history[-1][0]

    @property
    def attempt(self) -> int:
        return self.history[-1][2]

    @property
    def is_live(self) -> bool:
        status = self.history[-1][0]
        return (status is Status.RUNNING or status is Status.READY) and self.refusal is None

    @property
    def on_lost(self) -> str:
        return "fail" if self.task is None or self.is_stripped else self.task.on_lost

    @property
    def is_owned(self) -> bool:
        """Whether its row belongs to this process: it runs here, or no other process can start it."""
        return self.status is not Status.READY or self.task is None

    def issue_token(self) -> None:
        """Issue the token whose taker starts or withdraws the record. Call before another thread sees the record."""
        self.token = [None]

    def take(self) -> bool:
        """
        Take the token; return True to one caller only, in any thread.

        `list.pop` is atomic. It decides "start it now" against "write it as READY for any process", and for `afire`
        "withdraw it" against "send it to the database".
        """
        try:
            self.token.pop()  # type: ignore[union-attr]  # A record without a token: the answer is the same.
        except (IndexError, AttributeError):
            return False
        return True

    def give_back(self) -> None:
        if self.token is not None:
            self.token.append(None)

    @property
    def may_run_again(self) -> bool:
        """Whether another attempt may follow one that was interrupted, or that never began."""
        if self.task is None:
            return False
        if self.is_recorded_first:  # None of its code has run.
            return not self.is_stripped
        if self.on_lost != "rerun":
            return False
        return self.cancel_reason == "drain" or self.attempt < self.task.max_attempts

    def bind(self) -> None:
        """
        Bind the arguments to the function. Calling a coroutine function does that and runs none of its body.

        Raises:
            TypeError: they do not fit.
        """
        assert self.task is not None  # A coroutine object has its arguments.
        if self.unfit:
            raise TypeError(self.unfit)
        if self.task.binds_by_call:
            self.coroutine = self.task.func(*self.args, **self.kwargs)
        else:
            self.task.signature.bind(*self.args, **self.kwargs)

    def forget_coroutine(self) -> None:
        coroutine, self.coroutine = self.coroutine, None
        if coroutine is not None:
            with contextlib.suppress(BaseException):  # Foreign code, unless it is a native coroutine.
                coroutine.close()

    def start_claimed(
        self,
        task: Task[..., Any],
        prior: Sequence[Any],
        entry: Entry,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """
        Become the attempt that this process has claimed in the row.

        Args:
            prior: the history of the row, which ends with `entry` already.
        """
        self.task, self.loop = task, loop
        if self.context is NO_CONTEXT:  # It has run here already.
            self.context = contextvars.Context()
        self.coroutine = self.token = None
        self.is_queued = False
        self.forget_attempt()
        self.prior, self.offset, self.announced = prior, 1, 0
        self.written = (entry[0], entry[2])
        self.history = [entry]

    def forget_attempt(self) -> None:
        """Reset the attributes that the last attempt has set, before the next one."""
        self.asyncio_task = self.cancel_reason = self.deadline = self.failure = self.error = None
        self.is_started = self.is_past_soft_timeout = False
        self.ignores_since = 0.0

    def refuse(self, refusal: Refusal) -> None:
        """Make this the record of a task that does not exist: it was not fired after all, or its row is gone."""
        self.refusal = refusal
        self.forget_coroutine()
        self.wake_waiters()

    @property
    def hide(self) -> Hide | None:
        """A function that removes the values of sensitive arguments from a text. None: it has no such arguments."""
        task = self.task
        return None if task is None else make_hide(task.sensitive, task.signature, self.args, self.kwargs)

    def encode_arguments(self) -> tuple[str, str]:
        return self.encoded or arguments.encode_plain(self.args, self.kwargs)

    # Waiting for the end, from any loop or thread.

    def when_finished(self, wake: Callable[[], None]) -> None:
        """Call `wake` when it is finished, at once if it is already. The call may come from any thread."""
        with _waiters_lock:
            if self.is_live:
                self.waiters = [*(self.waiters or ()), wake]
                return
        wake()

    def forget_waiter(self, wake: Callable[[], None]) -> None:
        with _waiters_lock:
            self.waiters = [waiter for waiter in self.waiters or () if waiter is not wake]

    def wake_waiters(self) -> None:
        with _waiters_lock:
            waiters, self.waiters = self.waiters, None
        for wake in waiters or ():
            wake()

    def outcome(self) -> Any:
        """
        Return the result.

        Raises:
            TaskFailed, TaskCancelled, TaskInterrupted, TaskLost: the task ended with that status.
            RolledBack, KeyConflict: it was not fired after all.
            TaskNotFound: its row was deleted.
        """
        if self.refusal is not None:
            raise self.refusal
        status = self.status
        if status is Status.SUCCESSFUL:
            return self.value
        kind, outcome = ERRORS[status]
        if status is not Status.FAILED:  # It may have failed before, and been tried again.
            raise kind(f"Task {self.name} ({self.id}) {outcome}. {self.reason[:300]}".strip(), self.id)
        detail = self.failure.summary if self.failure else self.reason[:300]
        # Error reporters show the causes of an error too, with the variables of their frames.
        cause = self.error if self.task is None or not self.task.sensitive else None
        raise kind(f"Task {self.name} ({self.id}) {outcome}. {detail}".strip(), self.id) from cause


# One lock for all records: it is held for a moment, and for awaited tasks only. It is reentrant, since the garbage
# collector may run within it and refuse a task whose transaction was rolled back.
_waiters_lock = threading.RLock()
