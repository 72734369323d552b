"""
The runner: makes the parts that carry out the tasks of one process, and drains them.

No code of the runtime uses the database on the event loop. The journal's thread writes the rows.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from uuid import UUID

from ..conf import Settings
from ..journal.journal import Journal
from ..journal.listeners import Peers
from ..process.drain_report import DrainReport
from ..process.record import Record
from ..process.registry import Registry
from ..process.state import ProcessState
from ..status import Status
from .admission import Admission
from .backlog import Backlog
from .cancelling import Canceller, Interrupter
from .commits import Commits
from .concluding import Concluder
from .drain_deadline import find_deadline
from .drainer import Drainer
from .ends import Ends
from .executor import Executor
from .firing import Firing
from .lanes import Lanes
from .limits import Limits
from .lookup import afind, find
from .loops import Loops

LONGEST_STOP = 2.0  # Seconds.


class Runner:
    """Carries out the tasks of one process, each on the event loop that `Loops` picked for it."""

    def __init__(
        self,
        settings: Settings,
        state: ProcessState,
        registry: Registry,
        journal: Journal,
        loops: Loops,
        lanes: Lanes,
    ) -> None:
        self.settings = settings
        self.state = state
        self.registry = registry
        self.journal = journal
        self.loops = loops
        self.limits = limits = Limits(settings, registry.functions)
        self.backlog = backlog = Backlog(limits)
        self.ends = ends = Ends()
        self.concluder = concluder = Concluder(state, registry, journal, ends)
        self.interrupter = interrupter = Interrupter(state, settings.cancel_grace)
        self.canceller = Canceller(registry, journal, concluder, interrupter)
        self.executor = executor = Executor(
            settings, state, registry, journal, lanes, limits, backlog, concluder, interrupter, ends
        )
        self.slots = executor.slots
        self.firing = Firing(settings.max_args_bytes)
        self.admission = Admission(settings, state, registry, journal, loops, limits, backlog, executor, ends)
        self.commits = Commits(state, registry, journal, backlog, executor, concluder, interrupter, ends)
        self.peers: Peers | None = None
        self._drain: asyncio.Task[DrainReport] | None = None
        self._drainer: Drainer | None = None

    def attach(self, peers: Peers) -> None:
        """Attach the way to other processes. Call once, before tasks are fired."""
        self.peers = peers

    def serve(self, loop: asyncio.AbstractEventLoop) -> None:
        """Use the event loop of a server, and claim READY rows as a server does. Called for each request."""
        if self.loops.home is not loop:
            self.state.is_server = True
            self.loops.register_home(loop)

    # Handles.

    def find(self, task_id: UUID) -> Record:
        """Return the record of a task, see `lookup.find`."""
        return find(self.registry, task_id)

    async def afind(self, task_id: UUID) -> Record:
        return await afind(self.registry, task_id)

    def cancel(self, record: Record) -> bool:
        """Cancel a task on request; return False if it was finished already."""
        return self.canceller.cancel(record)

    def watch(self, record: Record) -> None:
        """Find out when an awaited task ends, if it may run in another process."""
        if record.status is Status.READY or not self.registry.is_live_here(record):
            self.registry.awaited[record.number] = record
            if self.peers is not None:
                self.peers.awaited(record)
            self.journal.start()  # A script may not have fired any task yet.
            self.journal.wake()

    def check_may_block(self) -> None:
        """
        Check that the current thread may wait for a task.

        Raises:
            RuntimeError: it may not, since the task may need this thread.
        """
        if asyncio._get_running_loop() is not None:
            effect = "it would stop the event loop"
        elif self.executor.is_database_thread():
            effect = "it would keep this database thread from the tasks that share it"
        elif self.journal.is_current_thread():
            effect = "it would keep the journal from recording the end of the task"
        else:
            return
        raise RuntimeError(f"handle.result() cannot be called here: {effect}. Use `await handle` in async code.")

    # The end of the process.

    async def drain(self, asked_by: str, deadline: float) -> DrainReport:
        """
        Drain the process.

        No more tasks are started, except those that running tasks fire. These and the running tasks may finish; the
        rest is cut short. All records are written. A second call waits for the first drain.

        Args:
            deadline: the moment at which all of that is done, on the monotonic clock.
        """
        loop = self.loops.find_main()
        if loop is not None and loop is not asyncio.get_running_loop():
            # The running loop may end with the caller.
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self.drain(asked_by, deadline), loop))
        if self._drain is None or self._drain.cancelled():
            self.state.drain()
            self._drainer = Drainer(
                self.settings, self.registry, self.journal, self.concluder, self.interrupter, self.ends
            )
            # Coroutine objects may wait here since the process was held. No other process can start them.
            self.slots.match()
            self._drain = asyncio.get_running_loop().create_task(
                self._carry_out_drain(self._drainer, asked_by, deadline)
            )
        return await asyncio.shield(self._drain)

    async def _carry_out_drain(self, drainer: Drainer, asked_by: str, deadline: float) -> DrainReport:
        report = await drainer.drain(asked_by, deadline)
        if self.peers is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self.peers.close()
        return report

    def hurry_drain(self) -> None:
        """Let the current drain, if there is one, wait for running tasks no longer, as its caller does."""
        if self._drainer is not None:
            self._drainer.hurry()

    def drain_at_exit(self) -> None:
        """
        Drain while the interpreter exits, in its main thread, in a process that no server notifies of its end.

        The loop of a server has stopped by then, with tasks in it. It is run once more.
        """
        now = time.monotonic()
        deadline = find_deadline(self.settings, now, now)
        draining = self.drain("the interpreter's exit", deadline)
        loop = self.loops.find_main() or self.loops.home
        if loop is None or loop.is_closed():
            loop = asyncio.new_event_loop()
        if loop.is_running():
            with contextlib.suppress(TimeoutError):
                asyncio.run_coroutine_threadsafe(draining, loop).result(deadline - now + 1)
        else:
            loop.run_until_complete(draining)

    def shut_down(self, deadline: float | None = None) -> None:
        """
        End the threads, and close their connections. No tasks can be fired afterwards.

        Args:
            deadline: the moment, on the monotonic clock, until which threads are waited for. None: in two seconds.
        """
        if deadline is None:
            deadline = time.monotonic() + LONGEST_STOP
        self.state.drain()
        if self.peers is not None:
            self.peers.stop()
        self.executor.shut_down()
        self.journal.stop(deadline)
        self.executor.join(deadline)
        self.loops.stop_bridge(deadline)
