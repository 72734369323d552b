"""A `Record`: a task as this process holds it, from `fire` until its last state is written."""

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

# A change of status: (status, seconds since the epoch, attempt, why). A bare tuple: one is made on each `fire`, and a
# named one costs three times as much.
Entry = tuple[Status, float, int, str]
Refusal = RolledBack | KeyConflict | TaskNotFound

# Looking a member up on its class takes longer than the rest of a comparison, and a set has to hash it.
READY, RUNNING, SUCCESSFUL, FAILED = Status.READY, Status.RUNNING, Status.SUCCESSFUL, Status.FAILED

NO_CONTEXT = contextvars.Context()  # Of a record that runs no more.

ERRORS = {
    Status.FAILED: (TaskFailed, "failed"),
    Status.CANCELLED: (TaskCancelled, "was cancelled"),
    Status.INTERRUPTED: (TaskInterrupted, "was interrupted by a drain"),
    Status.LOST: (TaskLost, "was lost with its process"),
}


class Gate(Protocol):
    """A limit that a task has passed, and that gets its place back at the end of the attempt. From any thread."""

    @property
    def is_wanted(self) -> bool:
        """Whether tasks may wait in the table for this place."""

    def give_back(self) -> None:
        """Return the place."""


class Record:
    """
    One task in memory.

    Its loop's thread changes it, the journal's thread reads it. What makes that safe: `history` only grows, its last
    entry decides the status, and everything that belongs to a status (a failure, a result) is set before its entry.
    """

    # What few tasks ever set. A class attribute costs a task neither time nor memory.
    coroutine: Coroutine[Any, Any, Any] | None = None
    asyncio_task: asyncio.Task[Any] | None = None
    when_never_begun: Callable[[asyncio.Task[None]], None] | None = None  # Its callback until its first step.
    encoded: tuple[str, str] | None = None  # The arguments as JSON; None: they are plain and not encoded yet.
    prior: Sequence[Any] = ()  # The row's history up to the claim, if this process claimed it.
    offset = 0  # How many entries of `history` stand in `prior` already.
    value: Any = None
    result_text: str | None = None  # The result as JSON.
    error: BaseException | None = None
    failure: Failure | None = None
    reason = ""  # Why it did not succeed, as its row says it, when it ended in another process.
    unfit = ""  # Why the arguments of a claimed row cannot be used at all.
    refusal: Refusal | None = None  # Set when there is no such task: it was not fired after all, or its row is gone.
    fired_with = ("", "")  # The fingerprint and the release in a claimed row: of the code that fired it.
    locale: Locale | None = None  # The caller's language and time zone, when it fired from another thread.
    is_stripped = False  # Whether its row has not its arguments, which the database refused: nobody can run it again.
    extras: Extras | None = None  # What only some tasks have.
    gates: tuple[Gate, ...] = ()  # What it has passed, and gives back with its slot.
    scope: Any = None  # The ASGI scope of the request that fired it.
    cancel_reason: str | None = None  # Why this process cancelled it: "asked", "drain", "taken" or "timeout".
    deadline: float | None = None  # When `timeout` ends its attempt, in seconds since the epoch.
    timed_out_at: str = ""  # Where it waited when its time was over, as text.
    is_past_soft_timeout = False
    ignores_since = 0.0  # Since when it ignores its cancellation, in seconds since the epoch.
    thread_id: int | None = None  # Of the thread that a plain `def` function is on.
    is_recorded_first = False  # Whether it starts only once its first write is committed.
    acknowledgement: asyncio.Future[bool] | None = None  # For `afire`: whether it was committed in time.
    waiters: list[Callable[[], None]] | None = None
    token: list[None] | None = None  # See `take`.
    is_queued = True  # Whether the journal has, or will have, something to write of it. Guarded by order, see Journal.
    is_started = False
    is_taken = False  # Whether others gave it a verdict while this process was taken for dead.
    is_sent = False  # Whether its first write took the token. The journal's.
    written: tuple[Status, int] | None = None  # Status and attempt of the row. The journal's.
    write_at = 0.0  # When it may be written, as `time.monotonic()` counts. The journal's.
    refusals = 0  # How often the database refused it alone. The journal's.
    is_put_off = False  # Whether others were at its key, so that it waits until `write_at`. The journal's.
    may_be_stored = False  # Whether an answer to the COMMIT of its first write got lost. The journal's.
    announced = 0  # How many entries of the history were sent as signals. The journal's.

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
        self.number = number  # The id, as an integer: making a UUID of it takes longer than making the number.
        self.name = name
        self.task = task  # None for a coroutine object, which nobody can run again.
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
        return (status is RUNNING or status is READY) and self.refusal is None

    @property
    def on_lost(self) -> str:
        return "fail" if self.task is None or self.is_stripped else self.task.on_lost

    @property
    def is_owned(self) -> bool:
        """Whether its row belongs to this process: it runs here, or nobody else can start it."""
        return self.status is not READY or self.task is None

    def hold(self) -> None:
        """Give it a token: who takes it, starts the record or withdraws it. Call before anybody else sees it."""
        self.token = [None]

    def take(self) -> bool:
        """
        Take the token: true for one caller only, whichever thread asks.

        `list.pop` is atomic. It decides "start it now" against "write it as READY for anyone", and for `afire`
        "withdraw it" against "send it to the database".
        """
        try:
            self.token.pop()  # type: ignore[union-attr]  # None for a record without token: the answer is the same.
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
        Become the attempt that the row says this process has claimed.

        Args:
            prior: the row's history, which ends with `entry` already.
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
        """Let go of what the last attempt has left, before the next one."""
        self.asyncio_task = self.cancel_reason = self.deadline = self.failure = self.error = None
        self.is_started = self.is_past_soft_timeout = False
        self.ignores_since = 0.0

    def refuse(self, refusal: Refusal) -> None:
        """Become a task that does not exist."""
        self.refusal = refusal
        self.forget_coroutine()
        self.wake_waiters()

    @property
    def hide(self) -> Hide | None:
        """What takes the values of sensitive arguments out of a text. None: it has no such arguments."""
        task = self.task
        return None if task is None else make_hide(task.sensitive, task.signature, self.args, self.kwargs)

    def encode_arguments(self) -> tuple[str, str]:
        return self.encoded or arguments.encode_plain(self.args, self.kwargs)

    # Waiting for the end, from any loop or thread.

    def when_finished(self, wake: Callable[[], None]) -> None:
        """Call `wake`, from whichever thread, when it is finished; at once if it is."""
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
            TaskFailed, TaskCancelled, TaskInterrupted, TaskLost: for a task that ended so.
            RolledBack, KeyConflict: for one that was not fired after all.
            TaskNotFound: for one whose row was deleted.
        """
        if self.refusal is not None:
            raise self.refusal
        status = self.status
        if status is SUCCESSFUL:
            return self.value
        kind, what = ERRORS[status]
        if status is not FAILED:  # It may have failed before, and been tried again.
            raise kind(f"Task {self.name} ({self.id}) {what}. {self.reason[:300]}".strip(), self.id)
        detail = self.failure.summary if self.failure else self.reason[:300]
        # Whoever reports an error, reports those it came from, and what the variables of their frames hold.
        cause = self.error if self.task is None or not self.task.sensitive else None
        raise kind(f"Task {self.name} ({self.id}) {what}. {detail}".strip(), self.id) from cause


# One for all: it is held for a moment, and only for tasks that somebody awaits. Reentrant, since the garbage collector
# may find a rolled back task in that moment.
_waiters_lock = threading.RLock()
