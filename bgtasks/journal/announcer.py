"""The announcer: sends the `task_…` signals for committed changes."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from .. import signals
from ..definition import Task, declared
from ..log import log
from ..process.record import Entry, Record
from ..status import FINISHED, Status
from ..transitions import Verdict

_SIGNALS = (signals.task_fired, signals.task_started, signals.task_finished)


def announce_all(changes: Iterable[tuple[Record, Sequence[Entry]]], process_id: UUID) -> None:
    """Announce the changes of a batch. Without receivers this takes almost no time."""
    if any(signal.receivers for signal in _SIGNALS):
        for record, entries in changes:
            announce(record, entries, process_id)
    else:
        for record, entries in changes:
            record.announced = len(entries)


def announce(record: Record, entries: Sequence[Entry], process_id: UUID) -> None:
    """
    Send the signals for the entries of a record's history that are not announced yet.

    Call on the journal's thread, after their commit. Django logs the exceptions of receivers.
    """
    first = record.announced
    record.announced = len(entries)
    for index in range(first, len(entries)):
        status, _, attempt, _ = entries[index]
        previous = entries[index - 1][0] if index else (Status.READY if record.prior else None)
        details = {
            "task_id": record.id,
            "name": record.name,
            "status": status,
            "previous": previous,
            "attempt": attempt,
            "process_id": process_id,
        }
        _announce_change(record.task, **details)


def announce_verdict(verdict: Verdict, process_id: UUID | None) -> None:
    """
    Send the signal for a task that was ended without a record of this process, after the commit.

    Args:
        process_id: this process; None if it runs no tasks.
    """
    details = {
        "task_id": verdict.id,
        "name": verdict.name,
        "status": verdict.status,
        "previous": verdict.previous,
        "attempt": verdict.attempt,
        "process_id": process_id,
    }
    _announce_change(declared.get(verdict.name), **details)


def _announce_change(task: Task[..., Any] | None, **details: Any) -> None:
    """
    Send the signals for one change of a task that is committed.

    Args:
        task: the sender; None if this process does not know the function.
        details: the keywords of the signals.
    """
    status = details["status"]
    try:
        if details["previous"] is None:
            signals.task_fired.send_robust(task, **details)
        if status is Status.RUNNING:
            signals.task_started.send_robust(task, **details)
        elif status in FINISHED:
            signals.task_finished.send_robust(task, **details)
    except BaseException as error:  # noqa: BLE001, RUF100  # `send_robust` lets a SystemExit through.
        log(logging.ERROR, "A receiver of a signal failed.", exc_info=error)
