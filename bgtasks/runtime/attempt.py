"""One attempt at a task, step by step, from its first line to what became of it."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async

from ..definition import arguments
from ..definition.retry import find_delay
from ..exceptions import Retry
from ..failure import Failure, describe, storable
from ..log import log
from ..process.extras import Extras
from ..process.record import Record
from ..status import Status
from .context import attempt_variable
from .time_limit import TimeLimit, make_error

if TYPE_CHECKING:
    from .runner import Runner  # For the type only: the runner imports this module.

Outcome = tuple[Status, str]  # What became of an attempt, and why.

CUT_SHORT = (Status.INTERRUPTED, "cut short by the drain")
ASKED_FOR = (Status.CANCELLED, "cancelled on request")
LOOP_ENDED = (Status.INTERRUPTED, "its event loop was shut down")


async def carry_out(runner: Runner, record: Record) -> None:
    """
    Carry out one attempt, and tell the runner what became of it.

    Runs in the attempt's own context. `SystemExit` and `KeyboardInterrupt` stop here like any other exception: let out
    of an asyncio task they would end the server.
    """
    runner.attempt_begins(record)
    if not runner.registry.holds(record):
        # Others took this process for dead before the first line: the verdict stands, and somebody else may run it.
        runner.attempt_ended(record, LOOP_ENDED)
        return
    record.is_started = True
    attempt_variable.set((runner, record))
    task = record.task
    lanes = runner.isolated_lanes if task is not None and task.is_isolated else runner.lanes
    lane = lanes.lease()
    limit = TimeLimit(runner, record) if task is not None and task.has_timeouts else None
    try:
        lane.enter()
        if record.locale is not None:
            record.locale.activate()
        coroutine, record.coroutine = record.coroutine, None
        value = await (coroutine if coroutine is not None else _call(runner, record))
    except BaseException as error:  # noqa: BLE001, RUF100  # See above.
        if isinstance(error, GeneratorExit) and not _is_running(record):
            raise  # Nobody raised it: the coroutine is being closed, with its loop.
        try:
            outcome = _conclude_error(record, error)
        except BaseException as second:  # noqa: BLE001, RUF100  # Foreign code in the error itself may raise anything.
            outcome = Status.FAILED, f"ended in a way that cannot be told: {type(second).__name__}"
    else:
        outcome = _conclude_value(runner, record, value)
    finally:
        if limit is not None:
            limit.cancel()
        lanes.release(lane)
    runner.attempt_ended(record, outcome)


async def _call(runner: Runner, record: Record) -> Any:
    task = record.task
    assert task is not None  # A record has a coroutine or a task function.
    if task.is_async:
        return await task.func(*record.args, **record.kwargs)
    # Any executor will do; asgiref's annotation names one kind.
    threads: Any = runner.threads
    in_thread = sync_to_async(call_in_thread, thread_sensitive=False, executor=threads)
    value, error = await in_thread(record, task.func)
    if error is not None:
        raise error
    return value


def call_in_thread(record: Record, function: Callable[..., Any]) -> tuple[Any, BaseException | None]:
    """Hand the error back as a value: a `StopIteration` cannot pass through a future, and would never arrive."""
    record.thread_id = threading.get_ident()
    try:
        return function(*record.args, **record.kwargs), None
    except BaseException as error:  # noqa: BLE001, RUF100  # Raised again in the attempt.
        return None, error
    finally:
        record.thread_id = None


async def call_later(function: Callable[..., Coroutine[Any, Any, Any]], args: tuple[Any, ...], kwargs: Any) -> Any:
    """Call a function that is marked as a coroutine function: calling it may run anything, so not where it is fired."""
    return await function(*args, **kwargs)


def _conclude_value(runner: Runner, record: Record, value: Any) -> Outcome:
    record.value = value
    why = "returned"
    if value is not None:
        try:
            text = arguments.encode_value(value)
            if len(text) > runner.settings.max_result_bytes:
                raise ValueError(f"{len(text)} bytes are more than MAX_RESULT_BYTES")
            record.result_text = text
        except BaseException as error:  # noqa: BLE001, RUF100  # The value's own code runs while it is encoded.
            why = f"returned; the result is not stored: {_tell(record, error)}"
    return Status.SUCCESSFUL, why


def _conclude_error(record: Record, error: BaseException) -> Outcome:
    if isinstance(error, asyncio.CancelledError) and (
        record.cancel_reason is not None or _is_cancelled_from_outside(record)
    ):
        if record.cancel_reason != "timeout":
            return cancelled_outcome(record)
        error = make_error(record).with_traceback(error.__traceback__)
    hide = record.hide
    delay = None if record.task is None or record.is_stripped else find_delay(record.task, record.attempt, error, hide)
    if delay is not None and record.cancel_reason == "asked":
        return Status.CANCELLED, f"cancelled on request; it raised {_tell(record, error)}"
    if isinstance(error, Retry) and error.__cause__ is not None:
        error = error.__cause__  # What went wrong; `Retry` says only what to do about it.
    try:
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename == __file__:  # This module's tell nobody much.
            trace = trace.tb_next
        record.failure = describe(error, trace, hide)
        # A handle may keep the error for long; the dropped frames would keep the record itself, in a cycle.
        record.error = error.with_traceback(trace)
    except BaseException:  # noqa: BLE001, RUF100  # An exception's attributes may be foreign code too.
        record.failure = Failure("Exception", "an exception that could not be described", "", "")
    if delay is None:
        _log(record, error, logging.ERROR, "")
        return Status.FAILED, f"raised {record.failure.summary}"
    assert record.task is not None  # It may be tried again.
    if record.extras is None:
        # As the row has them: what its function declares may be another release's, such as a key that it has not.
        record.extras = Extras()
    record.extras.run_after = time.time() + delay
    again = f"; again in {delay:.3g} s, attempt {record.attempt + 1} of {record.task.max_attempts}"
    _log(record, error, logging.WARNING, again)
    return Status.READY, f"raised {record.failure.summary}{again}"


def _tell(record: Record, error: BaseException) -> str:
    failure = describe(error, None, record.hide)
    return storable(failure.summary)[:300]


def cancelled_outcome(record: Record) -> Outcome:
    """Return what a cancelled attempt is, by who cancelled it."""
    if record.cancel_reason == "asked":
        return ASKED_FOR
    return CUT_SHORT if record.cancel_reason == "drain" else LOOP_ENDED


def _is_cancelled_from_outside(record: Record) -> bool:
    """Tell whether somebody cancelled the asyncio task, as a loop does at its end; else the task raised by itself."""
    return record.asyncio_task is not None and record.asyncio_task.cancelling() > 0


def _is_running(record: Record) -> bool:
    try:
        return asyncio.current_task(record.loop) is record.asyncio_task
    except RuntimeError:
        return False


def _log(record: Record, error: BaseException, level: int, again: str) -> None:
    """Log the failure once, in the task's own context, so that what enriches logs by context variables still works."""
    assert record.failure is not None
    details = {
        "task_id": str(record.id),
        "task_name": record.name,
        "attempt": record.attempt,
        "error_fingerprint": record.failure.fingerprint,
    }
    log(
        level,
        "Task %s (%s) failed in attempt %s: %s%s",
        record.name,
        record.id,
        record.attempt,
        record.failure.summary,
        again,
        exc_info=error,
        hide=record.hide,
        extra=details,
    )
