"""The commits: starts tasks and answers callers as soon as rows are committed, on the journal's thread."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable
from uuid import UUID

from ..definition.versions import describe_misfit
from ..exceptions import KeyConflict
from ..failure import Failure, storable
from ..journal.journal import Journal
from ..process.record import Record
from ..process.registry import Registry
from ..process.state import ProcessState
from ..status import Status
from .attempt import ASKED_FOR
from .backlog import Backlog
from .cancelling import Interrupter
from .concluding import Concluder
from .ends import Ends
from .executor import Executor
from .expiry import settle, settle_all

TAKEN = "its process was taken for dead"


class Commits:
    """The runtime as listener of the journal, see `journal.listeners.CommitListener`."""

    def __init__(
        self,
        state: ProcessState,
        registry: Registry,
        journal: Journal,
        backlog: Backlog,
        executor: Executor,
        concluder: Concluder,
        interrupter: Interrupter,
        ends: Ends,
    ) -> None:
        self._state = state
        self._registry = registry
        self._waiting_rows = journal.waiting_rows
        self._backlog = backlog
        self._executor = executor
        self._concluder = concluder
        self._interrupter = interrupter
        self._ends = ends

    def handed_over(self, records: list[Record]) -> None:
        """Leave records that are about to be written as READY to any process."""
        for record in records:
            record.forget_coroutine()
            self._registry.handed_over[record.number] = record
            self._registry.live.pop(record.number, None)
            if record.cancel_reason is not None:
                self._waiting_rows.cancel(record)
            self._backlog.expect(record)
        self._ends.announce()

    def ready_again(self, records: list[Record]) -> None:
        """Expect rows that are READY again. Before this commit they could not be claimed."""
        for record in records:
            self._backlog.expect(record)

    def conflicted(self, record: Record, holder: UUID) -> None:
        """Refuse a record whose key another task has. It was not fired."""
        assert record.extras is not None  # It has a key.
        has_slot = record.status is Status.RUNNING
        self._registry.live.pop(record.number, None)
        self._registry.handed_over.pop(record.number, None)
        record.refuse(KeyConflict(record.extras.key, holder))
        if has_slot:
            self._executor.free_slot(record)  # Before the answer, so that the caller's next task finds the slot.
        answer, record.acknowledgement = record.acknowledgement, None
        if answer is not None:
            with contextlib.suppress(RuntimeError):  # The loop of the caller may be closed by now.
                answer.get_loop().call_soon_threadsafe(settle, answer, False)
        self._ends.announce()

    def committed(self, records: list[Record]) -> None:
        """Start the records whose first write is committed, and answer the callers of `afire`."""
        answers: dict[asyncio.AbstractEventLoop, list[asyncio.Future[bool]]] = {}
        starts: dict[asyncio.AbstractEventLoop, list[Record]] = {}
        for record in records:
            answer, record.acknowledgement = record.acknowledgement, None
            if answer is not None:
                answers.setdefault(answer.get_loop(), []).append(answer)
            if record.status is Status.RUNNING and not record.is_started:
                starts.setdefault(record.loop, []).append(record)
            elif record.status is Status.READY and record.task is None:
                record.issue_token()
                self._executor.slots.queue(record)
        for loop, answered in answers.items():
            with contextlib.suppress(RuntimeError):  # The loop of the callers may be closed by now.
                loop.call_soon_threadsafe(settle_all, answered)
        for loop, started in starts.items():
            self._executor.start_all(loop, started)

    def taken(self, record: Record, status: Status) -> None:
        """
        Give up a record, since other processes declared this one dead.

        If its attempt is running, it is cancelled, and its outcome does not count.

        Args:
            status: the verdict in its row; READY if any process may start it.
        """
        record.is_taken = True
        was_running = record.status is Status.RUNNING
        self._registry.live.pop(record.number, None)
        record.take()  # It may wait here for a slot.
        self._adopt_verdict(record, status)
        if not was_running:
            record.forget_coroutine()
        elif record.is_recorded_first:  # It is never started, so its slot is freed here.
            record.forget_coroutine()
            self._executor.free_slot(record)
        else:
            self._interrupter.interrupt(record, "taken")
        self._ends.announce()

    def _adopt_verdict(self, record: Record, status: Status) -> None:
        if status.is_finished:
            record.reason = TAKEN
            record.history.append((status, time.time(), record.attempt, TAKEN))
            record.wake_waiters()
        else:
            # The old attempt may still run. If this process claims the row again, it makes another record, since this
            # one has yet to end. The callers that await this record are woken by the watcher, which reads the row.
            record.history.append((Status.READY, time.time(), record.attempt, TAKEN))
            if record.waiters:
                self._registry.awaited[record.number] = record

    # Claims, on the event loop.

    def start_claimed(self, records: Iterable[Record]) -> None:
        """Start the records of claimed rows. Each is live by now, and has its slot."""
        for record in records:
            if self._state.is_ending:
                # Claimed while the drain began. Another process starts it, as if it had never been claimed.
                self._concluder.hand_back(record, "given back by a draining process")
                self._executor.free_slot(record)
            elif record.cancel_reason is not None:
                self._concluder.conclude(record, *ASKED_FOR)
                self._executor.free_slot(record)
            else:
                self._start_if_fit(record)

    def _start_if_fit(self, record: Record) -> None:
        try:
            record.bind()
        except TypeError as error:
            self._fail_unfit(record, error)
            self._executor.free_slot(record)
        else:
            self._executor.start(record)

    def _fail_unfit(self, record: Record, error: TypeError) -> None:
        task = record.task
        assert task is not None  # It was claimed.
        message, reason = str(error), "its arguments cannot be used"
        if not record.unfit:
            fired_with, release = record.fired_with
            difference = describe_misfit(
                task.signature, record.args, record.kwargs, fired_with, task.signature_fingerprint, release
            )
            message, reason = f"{message}. {difference}", "its arguments no longer fit the function"
        message = storable(message)
        record.failure = Failure("TypeError", message, "", "")
        self._concluder.conclude(record, Status.FAILED, f"{reason}: {message}")
