"""Cancellation: of running attempts, and of tasks on request."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

from ..journal.journal import Journal
from ..log import log
from ..process.record import Record
from ..process.registry import Registry
from ..process.state import ProcessState
from ..status import Status
from .attempt import ASKED_FOR
from .concluding import Concluder


class Interrupter:
    """Cancels running attempts, from any thread."""

    def __init__(self, state: ProcessState, cancel_grace: float) -> None:
        """
        Args:
            cancel_grace: seconds that an attempt may still run after its cancellation.
        """
        self._state = state
        self._cancel_grace = cancel_grace

    def interrupt(self, record: Record, reason: str) -> None:
        """
        Cancel the running attempt of a record.

        Args:
            reason: "asked", "drain", "taken" or "timeout".
        """
        if record.cancel_reason is None or (record.cancel_reason, reason) == ("timeout", "asked"):
            record.cancel_reason = reason  # A request after a timeout also prevents the next attempt.
        task = record.asyncio_task
        if task is None:
            return  # The start is on its way to the loop, and cancels the attempt there.
        if task.get_loop() is asyncio._get_running_loop():
            self._cancel(record, task)
            return
        with contextlib.suppress(RuntimeError):  # The loop may be closed by now, and the task gone with it.
            task.get_loop().call_soon_threadsafe(self._cancel, record, task)

    def _cancel(self, record: Record, task: asyncio.Task[None]) -> None:
        task.cancel()
        task.get_loop().call_later(self._cancel_grace, self._check_ended, record, task)

    def _check_ended(self, record: Record, task: asyncio.Task[None]) -> None:
        """Log that an attempt ignores its cancellation, once."""
        if task.done() or record.asyncio_task is not task or self._state.is_ending:
            return  # During a drain the drainer reports it.
        if record.ignores_since:
            return  # An earlier cancellation is logged already.
        record.ignores_since = time.time() - self._cancel_grace
        message = "Task %s (%s) ignores its cancellation: it still runs %.3g s after it (CANCEL_GRACE)."
        log(logging.WARNING, message, record.name, record.id, self._cancel_grace)


class Canceller:
    """Cancels tasks on request, from any thread."""

    def __init__(self, registry: Registry, journal: Journal, concluder: Concluder, interrupter: Interrupter) -> None:
        self._registry = registry
        self._waiting_rows = journal.waiting_rows
        self._concluder = concluder
        self._interrupter = interrupter

    def cancel(self, record: Record) -> bool:
        """Cancel a task; return False if it was finished already."""
        if not record.is_live:
            return False
        if not self._registry.is_live_here(record):  # Its row belongs to the process that claims it.
            self._waiting_rows.cancel(record)
            return True
        if record.status is Status.READY and record.take():
            self._concluder.conclude(record, *ASKED_FOR)
            return True
        self._interrupter.interrupt(record, "asked")
        if not self._registry.is_live_here(record) and record.is_live:  # The journal has handed it over meanwhile.
            self._waiting_rows.cancel(record)
        return True
