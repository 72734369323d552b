"""The conclusion of attempts: a final status, or READY again, for any process."""

from __future__ import annotations

import time

from ..journal.journal import Journal
from ..process.record import NO_CONTEXT, Record
from ..process.registry import Registry
from ..process.state import ProcessState
from ..status import Status
from .ends import Ends

READY, INTERRUPTED = Status.READY, Status.INTERRUPTED  # On Python 3.11 a lookup on the enum takes 80 ns, a global 10.


class Concluder:
    """Gives records their next status, from any thread. The journal writes it."""

    def __init__(self, state: ProcessState, registry: Registry, journal: Journal, ends: Ends) -> None:
        self._state = state
        self._registry = registry
        self._journal = journal
        self._ends = ends

    def conclude(self, record: Record, status: Status, reason: str) -> None:
        """
        Conclude the attempt of a record, or a record that never started.

        READY leaves the next attempt to any process, after the moment in `Extras.run_after`. INTERRUPTED does the same
        if the task may run again.
        """
        if record.coroutine is not None:
            record.forget_coroutine()
        if status is READY:
            self._leave_to_any_process(record, record.attempt, reason)
            return
        if status is INTERRUPTED:
            if self._state.is_ending:  # Then all cancellations without a reason come from the end of the process.
                record.cancel_reason = record.cancel_reason or "drain"
            if record.may_run_again:
                self.hand_back(record, reason)
                return
        record.history.append((status, time.time(), record.attempt, reason))
        self._forget(record)
        self._write(record)
        record.wake_waiters()

    def hand_back(self, record: Record, reason: str) -> None:
        """
        Let any process start the task again.

        The attempt does not count if it was cut short by a drain, or never started after its claim: that is not the
        task's fault. After any other cancellation it counts, or else such a task might be started again for ever.
        """
        is_our_doing = record.cancel_reason == "drain" or not record.is_started
        attempts = max(record.attempt - 1, 0) if is_our_doing else record.attempt
        self._leave_to_any_process(record, attempts, reason)

    def _leave_to_any_process(self, record: Record, attempts: int, reason: str) -> None:
        self._registry.handed_over[record.number] = record
        self._forget(record)
        if record.waiters:
            self._registry.awaited[record.number] = record  # Another process may come to run it.
        # Last: from here on the journal may write the row, and claim it again, before this thread goes on.
        record.history.append((READY, time.time(), attempts, reason))
        self._write(record)

    def _forget(self, record: Record) -> None:
        self._registry.live.pop(record.number, None)
        record.context = NO_CONTEXT  # The old one refers to the record in turn, and to objects of the request.

    def _write(self, record: Record) -> None:
        self._journal.put_again(record)
        self._ends.announce()
