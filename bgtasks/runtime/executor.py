"""The executor: starts attempts in slots, each on the event loop of its record, and takes their outcomes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from asgiref.sync import sync_to_async

from ..conf import Settings
from ..journal.journal import Journal
from ..log import log
from ..process.record import Record
from ..process.registry import Registry
from ..process.state import Phase, ProcessState
from ..status import Status
from . import attempt
from .backlog import Backlog
from .cancelling import Interrupter
from .concluding import Concluder
from .ends import Ends
from .lanes import DaemonExecutor, IsolatedLanes, Lane, Lanes
from .limits import Limits
from .progress import ProgressWriter
from .slots import Slots

INTERRUPTED = Status.INTERRUPTED  # On Python 3.11 a lookup on the enum takes 80 ns, a global 10.


class Executor:
    """Carries out attempts: the `attempt.Attempts` of a process."""

    def __init__(
        self,
        settings: Settings,
        state: ProcessState,
        registry: Registry,
        journal: Journal,
        lanes: Lanes,
        limits: Limits,
        backlog: Backlog,
        concluder: Concluder,
        interrupter: Interrupter,
        ends: Ends,
    ) -> None:
        self.max_result_bytes = settings.max_result_bytes
        self.slots = Slots(settings.max_running, state, self._may_start_waiting, self._start_waiting)
        self.lanes = lanes
        self.isolated_lanes: Lanes = IsolatedLanes(settings.max_isolated)
        self.threads = DaemonExecutor("bgtasks-sync", threads=settings.sync_threads)
        self.progress = ProgressWriter(registry, journal, settings.poll_interval)
        self.interrupt = interrupter.interrupt
        self.is_live_here = registry.is_live_here
        self._state = state
        self._registry = registry
        self._journal = journal
        self._limits = limits
        self._backlog = backlog
        self._concluder = concluder
        self._ends = ends

    # Starts. Each record has its slot by then.

    def start(self, record: Record) -> None:
        """Start a record on its loop, from any thread."""
        loop = record.loop
        if loop is asyncio._get_running_loop():
            attempt.start(self, record)
            return
        try:
            loop.call_soon_threadsafe(attempt.start, self, record, context=record.context)
        except RuntimeError:  # The loop is closed.
            self._give_up(record)

    def start_all(self, loop: asyncio.AbstractEventLoop, records: list[Record]) -> None:
        """Start records of one loop from another thread. One call for all: each wakes the loop, which takes 5 µs."""
        try:
            loop.call_soon_threadsafe(self._start_all, records)
        except RuntimeError:  # The loop is closed.
            for record in records:
                self._give_up(record)

    def _start_all(self, records: list[Record]) -> None:
        for record in records:
            attempt.start(self, record)

    def _give_up(self, record: Record) -> None:
        self._concluder.conclude(record, *attempt.LOOP_ENDED)
        self.free_slot(record)

    # Attempts.

    @property
    def is_draining(self) -> bool:
        return self._state.is_ending

    def lease(self, record: Record) -> Lane:
        """Lease the database thread of an attempt."""
        task = record.task
        lanes = self.isolated_lanes if task is not None and task.is_isolated else self.lanes
        return lanes.lease()

    async def call_plain(self, record: Record, function: Callable[..., Any]) -> attempt.Returned:
        """Call a plain `def` function on a thread of its own."""
        # Any executor will do; asgiref's annotation names one kind.
        threads: Any = self.threads
        in_thread = sync_to_async(attempt.call_in_thread, thread_sensitive=False, executor=threads)
        return await in_thread(record, function)

    def end(self, record: Record, outcome: attempt.Outcome) -> None:
        """Take the outcome of an attempt."""
        if self._registry.is_live_here(record):
            record.asyncio_task = None
            self._concluder.conclude(record, *outcome)
            self._ends.count(record.name, outcome[0] is INTERRUPTED)
        else:
            # The verdict was given while the attempt ignored its cancellation, and stands.
            record.forget_coroutine()  # The attempt may not have begun.
            log(logging.WARNING, "Task %s (%s) ended after its verdict was given.", record.name, record.id)
        self.free_slot(record)

    # Slots.

    def free_slot(self, record: Record) -> None:
        """Give the slot of a record to the next record that waits here, or leave it to the next claim."""
        if record.gates:
            gates, record.gates = record.gates, ()
            if self._limits.leave(gates):
                self._backlog.expect_limited()
        self.slots.give_back()
        if self._backlog.may_have_come() and self.slots and self._state.phase is not Phase.HELD:
            self._journal.wake()

    def has_recorded_its_starts(self) -> bool:
        """
        Return whether each taken slot belongs to a task whose row says RUNNING. From the journal's thread.

        The first step of a start, in any thread, is to take its slot. So while the process is held, a true answer
        stays true: no start is on its way any more.
        """
        recorded = sum(
            record.status is Status.RUNNING and record.written is not None and record.written[0] is Status.RUNNING
            for record in list(self._registry.live.values())
        )
        return len(self.slots) + recorded >= self.slots.count

    def _may_start_waiting(self, record: Record) -> bool:
        """Return whether a waiting record may start here. A process that ends leaves task functions to the others."""
        return record.task is None or not (self._state.is_ending or self._limits.is_paused(record.task))

    def _start_waiting(self, record: Record) -> None:
        record.history.append((Status.RUNNING, time.time(), 1, "a slot became free"))
        self._journal.put_again(record)
        self.start(record)

    # The end of the process.

    def is_database_thread(self) -> bool:
        """Return whether the current thread is a lane, which tasks need for their ORM calls."""
        return self.lanes.is_lane() or self.isolated_lanes.is_lane()

    def shut_down(self) -> None:
        """Take no more work on the threads."""
        self.lanes.shut_down()
        self.isolated_lanes.shut_down()
        self.threads.shutdown(wait=False)

    def join(self, deadline: float) -> None:
        """Wait for the threads to end, until a moment on the monotonic clock: the code of a task may never end."""
        self.lanes.join(deadline)
        self.isolated_lanes.join(deadline)
        self.threads.join(deadline)
