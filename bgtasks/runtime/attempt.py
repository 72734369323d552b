"""One attempt at a task, step by step, from its first line to its outcome."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol

from ..definition import arguments
from ..definition.retry import find_delay
from ..definition.sensitive import Hide
from ..exceptions import Retry
from ..failure import Failure, describe, storable
from ..log import log
from ..process.extras import Extras
from ..process.record import Record
from ..status import Status
from .context import TaskOwner, attempt_variable
from .time_limit import TimeLimit, make_error

Outcome = tuple[Status, str]  # The status after an attempt, and the reason.
Returned = tuple[Any, BaseException | None]  # The value that a function returned, or the exception that it raised.

CUT_SHORT = (Status.INTERRUPTED, "cut short by the drain")
ASKED_FOR = (Status.CANCELLED, "cancelled on request")
LOOP_ENDED = (Status.INTERRUPTED, "its event loop was shut down")


class Place(Protocol):
    """The threads and connections on which an attempt makes its thread-sensitive calls."""

    def enter(self) -> None:
        """Use them in the current context."""

    def release(self) -> None:
        """Stop using them."""


class Attempts(TaskOwner, Protocol):
    """The executor, as an attempt sees it."""

    max_result_bytes: int

    def is_live_here(self, record: Record) -> bool:
        """Return whether the task is live in this process. If not, its verdict was given, and the attempt is void."""

    def lease(self, record: Record) -> Place:
        """Return the place where the attempt makes its thread-sensitive calls."""

    async def call_plain(self, record: Record, function: Callable[..., Any]) -> Returned:
        """Call a plain `def` function with the arguments of the record."""

    def interrupt(self, record: Record, reason: str) -> None:
        """Cancel the attempt."""

    def end(self, record: Record, outcome: Outcome) -> None:
        """Take the outcome of the attempt."""


def start(executor: Attempts, record: Record) -> asyncio.Task[None]:
    """Start an attempt on the loop of its record, in the thread of that loop."""
    # Built by hand: a task factory of the project may be eager, and would run the body inside `fire`.
    name = record.task.loop_name if record.task is not None else record.name
    task = asyncio.Task(carry_out(executor, record), loop=record.loop, name=name, context=record.context)
    record.asyncio_task = task
    # The first step removes it: a callback at the end would cost each task another turn of the loop.
    record.when_never_begun = partial(_end_unbegun, executor, record)
    task.add_done_callback(record.when_never_begun)
    if record.cancel_reason is not None:  # It was cancelled while the start was on its way to the loop.
        task.cancel()
    return task


def _end_unbegun(executor: Attempts, record: Record, task: asyncio.Task[None]) -> None:
    """End an attempt that was cancelled before its first step: none of its code has run."""
    record.when_never_begun = None
    executor.end(record, cancelled_outcome(record))


def _take_first_step(record: Record) -> None:
    assert record.asyncio_task is not None and record.when_never_begun is not None  # noqa: PT018  # It was started.
    record.asyncio_task.remove_done_callback(record.when_never_begun)
    record.when_never_begun = None


async def carry_out(executor: Attempts, record: Record) -> None:
    """
    Carry out one attempt, and give its outcome to the executor.

    Runs in the attempt's own context. `SystemExit` and `KeyboardInterrupt` are caught like any other exception: if they
    left this asyncio task, they would end the server.
    """
    _take_first_step(record)
    if not executor.is_live_here(record):
        # Other processes declared this one dead before the first line. The verdict stands; the task may run elsewhere.
        executor.end(record, LOOP_ENDED)
        return
    record.is_started = True
    attempt_variable.set((executor, record))
    task = record.task
    place = executor.lease(record)
    limit = TimeLimit(executor.interrupt, record) if task is not None and task.has_timeouts else None
    try:
        place.enter()
        if record.locale is not None:
            record.locale.activate()
        coroutine, record.coroutine = record.coroutine, None
        value = await (coroutine if coroutine is not None else _call(executor, record))
    except BaseException as error:  # noqa: BLE001, RUF100  # See above.
        if isinstance(error, GeneratorExit) and not _is_running(record):
            raise  # The coroutine is being closed, together with its loop.
        try:
            outcome = _conclude_error(record, error)
        except BaseException as second:  # noqa: BLE001, RUF100  # Foreign code in the error may raise any exception.
            outcome = Status.FAILED, f"ended in a way that cannot be told: {type(second).__name__}"
    else:
        outcome = _conclude_value(executor.max_result_bytes, record, value)
    finally:
        if limit is not None:
            limit.cancel()
        place.release()
    executor.end(record, outcome)


async def _call(executor: Attempts, record: Record) -> Any:
    task = record.task
    assert task is not None  # A record has a coroutine or a task function.
    if task.is_async:
        return await task.func(*record.args, **record.kwargs)
    value, error = await executor.call_plain(record, task.func)
    if error is not None:
        raise error
    return value


def call_in_thread(record: Record, function: Callable[..., Any]) -> Returned:
    """Call a function, and return its error as a value: a `StopIteration` cannot pass through a future."""
    record.thread_id = threading.get_ident()
    try:
        return function(*record.args, **record.kwargs), None
    except BaseException as error:  # noqa: BLE001, RUF100  # Raised again in the attempt.
        return None, error
    finally:
        record.thread_id = None


async def call_later(function: Callable[..., Coroutine[Any, Any, Any]], args: tuple[Any, ...], kwargs: Any) -> Any:
    """Call a function that is only marked as a coroutine function. `fire` does not: the call may run any code."""
    return await function(*args, **kwargs)


def _conclude_value(max_bytes: int, record: Record, value: Any) -> Outcome:
    record.value = value
    reason = "returned"
    if value is not None:
        try:
            text = arguments.encode_value(value)
            if len(text) > max_bytes:
                raise ValueError(f"{len(text)} bytes are more than MAX_RESULT_BYTES")
            record.result_text = text
        except BaseException as error:  # noqa: BLE001, RUF100  # The value's own code runs while it is encoded.
            reason = f"returned; the result is not stored: {_summarise(record, error)}"
    return Status.SUCCESSFUL, reason


def _conclude_error(record: Record, error: BaseException) -> Outcome:
    """Return the outcome of an attempt that has raised, with the failure noted in the record."""
    if isinstance(error, asyncio.CancelledError) and (
        record.cancel_reason is not None or _is_cancelled_from_outside(record)
    ):
        if record.cancel_reason != "timeout":
            return cancelled_outcome(record)
        error = make_error(record).with_traceback(error.__traceback__)
    hide = record.hide
    delay = None if record.task is None or record.is_stripped else find_delay(record.task, record.attempt, error, hide)
    if delay is not None and record.cancel_reason == "asked":
        return Status.CANCELLED, f"cancelled on request; it raised {_summarise(record, error)}"
    if isinstance(error, Retry) and error.__cause__ is not None:
        error = error.__cause__  # The failure itself; `Retry` only says how to go on.
    record.failure = _note_error(record, error, hide)
    if delay is None:
        _log(record, record.failure, error, logging.ERROR, "")
        return Status.FAILED, f"raised {record.failure.summary}"
    assert record.task is not None  # It has retries.
    if record.extras is None:
        # With the defaults, as in the row. Its function may declare other values now, such as a key.
        record.extras = Extras()
    record.extras.run_after = time.time() + delay
    again = f"; again in {delay:.3g} s, attempt {record.attempt + 1} of {record.task.max_attempts}"
    _log(record, record.failure, error, logging.WARNING, again)
    return Status.READY, f"raised {record.failure.summary}{again}"


def _note_error(record: Record, error: BaseException, hide: Hide | None) -> Failure:
    """Note an error for the handles of the task; return its description for the row."""
    try:
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
            trace = trace.tb_next  # The frames of this module explain nothing.
        failure = describe(error, trace, hide)
        # A handle may keep the error for long. The dropped frames refer to the record, and would make a cycle.
        record.error = error.with_traceback(trace)
    except BaseException:  # noqa: BLE001, RUF100  # An exception's attributes may be foreign code too.
        return Failure("Exception", "an exception that could not be described", "", "")
    return failure


def _summarise(record: Record, error: BaseException) -> str:
    failure = describe(error, None, record.hide)
    return storable(failure.summary)[:300]


def cancelled_outcome(record: Record) -> Outcome:
    """Return the outcome of a cancelled attempt, by the reason of its cancellation."""
    if record.cancel_reason == "asked":
        return ASKED_FOR
    return CUT_SHORT if record.cancel_reason == "drain" else LOOP_ENDED


def _is_cancelled_from_outside(record: Record) -> bool:
    """
    Return whether other code cancelled the asyncio task, as a loop does at its end.

    If not, the task's own code raised the CancelledError.
    """
    return record.asyncio_task is not None and record.asyncio_task.cancelling() > 0


def _is_running(record: Record) -> bool:
    try:
        return asyncio.current_task(record.loop) is record.asyncio_task
    except RuntimeError:
        return False


def _log(record: Record, failure: Failure, error: BaseException, level: int, again: str) -> None:
    """Log a failure, in the context of the task: log filters may read its context variables."""
    details = {
        "task_id": str(record.id),
        "task_name": record.name,
        "attempt": record.attempt,
        "error_fingerprint": failure.fingerprint,
    }
    log(
        level,
        "Task %s (%s) failed in attempt %s: %s%s",
        record.name,
        record.id,
        record.attempt,
        failure.summary,
        again,
        exc_info=error,
        hide=record.hide,
        extra=details,
    )
