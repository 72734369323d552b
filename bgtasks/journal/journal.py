"""
The journal: one thread and one connection that record the tasks of this process.

Group commit: while one batch is written, the next one gathers. Records that no caller waits for gather for a moment
first. All changes of a task between two batches become one write. The thread also counts up the beat of the process and
gives the services their turn.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from django.db import connections, router

from ..conf import Settings
from ..log import log
from ..models import BackgroundTask
from ..process.connections import no_forks, own_connections
from ..process.drain_report import DrainReport
from ..process.record import Record
from ..process.registry import Registry
from ..process.state import ProcessState
from . import spool
from .after_commit import AfterCommit
from .drain_row import Conclusion, run_and_wait, write_end
from .heartbeat import FindLoop, Heartbeat
from .listeners import CommitListener, Peers, Service
from .loop_turn import LoopTurn
from .new_identity import go_on_under_next_id
from .outage import FIRST_RETRY, Outage
from .selection import LONGEST_WAIT, MAX_BATCH, Selection
from .statements import Disowned, Statements, statements_for
from .tally import Tally
from .waiting_rows import WaitingRows
from .writer import Writer

FEW = 200  # Records in the inbox up to which the journal waits for more.
# Seconds for which the journal gathers when no caller waits: a short task is then written once. After a long round it
# rests eight times as long as the round took, or it would take from the views the time that they need: under load, a
# view that fires one task answers 0.95 instead of 0.83 times the requests of the view without (SQLite).
LINGER, LONGEST_LINGER = 0.003, 0.025
REST = 8
OFFER_AFTER = 100  # Records that are taken in between two offers of the loop's turn.
MAX_INTAKE = 10_000  # Records taken in before the next write, however fast more arrive.


class Journal:
    """
    Records the tasks of one process.

    `put` and the other methods of the first part are called from any thread, all else runs on the journal's own. The
    flag `is_queued` of a record is cleared before the record is read, and set after it was changed. So no change is
    missed, and a record that changes twice before it is read is queued once.
    """

    def __init__(self, settings: Settings, registry: Registry, state: ProcessState, find_loop: FindLoop) -> None:
        self.outage = Outage(settings)
        self.tally = Tally()
        self.heartbeat = Heartbeat(settings, registry, state, find_loop)
        self.waiting_rows = WaitingRows(state, self.tally, self.submit)
        self._settings = settings
        self._registry = registry
        self._state = state
        self.services: Sequence[Service] = ()
        self._at_end: Callable[[], None] = lambda: None
        self._inbox: queue.SimpleQueue[Record | Callable[[], None] | None] = queue.SimpleQueue()
        self._is_urgent = threading.Event()  # Whether a caller waits for a record in the inbox.
        self._is_woken = False  # Whether `wake` has put an item there. Cleared before the inbox is emptied.
        self._selection = Selection(state)
        self._linger = LINGER
        self._calls: deque[Callable[[], None]] = deque()
        self._thread: threading.Thread | None = None
        self._start_lock = threading.Lock()
        self._stop_by: float | None = None  # When the thread must end, on the monotonic clock.
        self._conclusion: Conclusion | None = None
        self._loop_turn = LoopTurn()

    def attach(
        self,
        listener: CommitListener,
        services: Sequence[Service] = (),
        peers: Peers | None = None,
        at_end: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Attach the runtime. Call once, before anything is put.

        Args:
            listener: learns what became of the records.
            services: get their turn in this order.
            peers: the other processes, if there is a way to reach them.
            at_end: writes what is left, on the journal's thread, at the end of the process.
        """
        self._listener = listener
        self.services = services
        self._peers = peers
        self._at_end = at_end
        pending = self._selection.pending
        self.after_commit = AfterCommit(
            self._state, pending, self.tally, self._loop_turn, listener, peers, self.waiting_rows
        )

    # From any thread.

    def put(self, record: Record) -> None:
        """Write a new record."""
        self._inbox.put(record)
        if record.is_recorded_first:
            self._hasten()
        if self._thread is None:
            self.start()

    def put_again(self, record: Record) -> None:
        """Write a change of a record."""
        if not record.is_queued:
            record.is_queued = True
            self._inbox.put(record)

    def wake(self) -> None:
        """Ask the services whether they have work."""
        if not self._is_woken:  # Else an item is in the inbox, or about to be, and a round follows it.
            self._is_woken = True
            self._inbox.put(None)
            self._hasten()

    def submit(self, function: Callable[[], None]) -> None:
        """Run a function on the journal's thread, as soon as the database is there."""
        self._inbox.put(function)
        self._hasten()
        if self._thread is None:
            self.start()

    def _hasten(self) -> None:
        """Have the inbox emptied without waiting for more."""
        if not self._is_urgent.is_set():  # Else it is not cleared yet, and the inbox is emptied after that.
            self._is_urgent.set()

    def start(self) -> None:
        with self._start_lock:
            if self._thread is None and not self._state.is_stopped:
                thread = threading.Thread(target=self._run, daemon=True, name="bgtasks-journal")
                self._thread = thread
                thread.start()

    def stop(self, deadline: float) -> None:
        """
        Write the rest, end the thread and close its connection.

        Args:
            deadline: the latest end, on the monotonic clock.
        """
        self._stop_by = deadline
        self._state.stop()
        self.wake()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(max(deadline - time.monotonic(), 0))
            if self._thread.is_alive():
                self._spool_from_outside()

    @property
    def is_running(self) -> bool:
        return self._thread is not None and not self._state.is_stopped

    def is_current_thread(self) -> bool:
        return self._thread is threading.current_thread()

    def knows(self, number: int) -> bool:
        """Return whether a task is live here, or waits here to be written. From the journal's thread."""
        return number in self._registry.live or number in self._selection.pending

    def count_unwritten(self) -> int:
        return len(self._selection.pending) + self._inbox.qsize()

    async def begin_drain(self) -> None:
        """Write that this process drains, and wait until the current work of the thread, such as a claim, is done."""
        await run_and_wait(self._beat, self.submit)

    async def conclude_drain(self, report: DrainReport, timeout: float) -> bool:
        """
        Write all that is left, then the row of the drain and the end of the process.

        Returns:
            Whether all of it was committed within `timeout` seconds.
        """
        self._conclusion = conclusion = Conclusion(report, timeout)
        self.start()
        self.wake()
        return await conclusion.wait()

    # The thread.

    def _run(self) -> None:
        self._alias = router.db_for_write(BackgroundTask)
        self._connection = connections[self._alias]
        self._use(statements_for(self._alias, self._state.id, self._settings.release, loop_turn=self._loop_turn))
        with own_connections(is_considerate=True):
            while self._stop_by is None:
                self._protect(self._gather)
                self._protect(self._round)
            self._protect(self._write_the_rest)

    def _use(self, statements: Statements) -> None:
        self._statements = statements
        self._writer = Writer(statements, self._state.id, self.after_commit.take_in)

    def _protect(self, step: Callable[[], None]) -> None:
        """Log any exception of a step: without this thread nothing is recorded."""
        try:
            step()
        except BaseException as error:  # noqa: BLE001, RUF100  # See above.
            log(logging.ERROR, "The journal failed, and goes on.", exc_info=error)
            time.sleep(FIRST_RETRY)

    def _write_the_rest(self) -> None:
        """Write the last changes as long as the database takes them and there is time; spool the others."""
        assert self._stop_by is not None  # That is why this is called.
        pending = self._selection.pending
        is_well = True
        while is_well and time.monotonic() < self._stop_by and not (self._inbox.empty() and not pending):
            self._gather()
            is_well = self._guard(self._write_pending)
        while not self._inbox.empty():
            self._gather()
        if pending:
            spool.keep(self._settings, self._alias, self._state.id, pending.values())
        if is_well and self.tally.writes:
            self._guard(self._at_end)

    def _spool_from_outside(self) -> None:
        """Spool in place of the thread, which waits for a database that does not answer, and dies with the process."""
        records = dict(self._selection.pending)
        with contextlib.suppress(queue.Empty):
            while True:
                item = self._inbox.get_nowait()
                if isinstance(item, Record):
                    records[item.number] = item
        if records:
            spool.keep(self._settings, self._alias, self._state.id, records.values())

    def _gather(self) -> None:
        """Wait until there is work, then take in all that has arrived."""
        timeout = self._seconds_until_due()
        try:
            item = self._inbox.get(timeout=timeout) if timeout > 0 else self._inbox.get_nowait()
            if not self._state.is_ending and self._inbox.qsize() < FEW:
                # Waiting for this event, and not for the inbox, spares each `fire` the waking of this thread.
                self._is_urgent.wait(self._linger)
            self._loop_turn.restart()
            self._is_urgent.clear()
            self._is_woken = False
            patience = self._selection.find_patience(self.count_unwritten())
            for count in range(MAX_INTAKE):
                if count:
                    item = self._inbox.get_nowait()
                    if not count % OFFER_AFTER:
                        self._loop_turn.offer()
                if isinstance(item, Record):
                    self._selection.take_in(item, patience)
                elif item is not None:
                    self._calls.append(item)
        except queue.Empty:
            pass

    def _seconds_until_due(self) -> float:
        now = time.monotonic()
        if self.outage.is_away:
            return self.outage.seconds_until_retry(now)
        if self._calls:
            return 0.0
        waits = [LONGEST_WAIT, self.heartbeat.next_at - now]
        if self._selection.pending:
            waits.append(self._selection.seconds_until_writable())
        if self._conclusion is not None:
            waits.append(0.0 if not self._selection.pending else self._conclusion.deadline - now)
        waits += [service.seconds_until_due(now) for service in self.services]
        return min(waits)

    def _round(self) -> None:
        if self.outage.seconds_until_retry(time.monotonic()) > 0:
            return
        is_well = True
        if time.monotonic() >= self.heartbeat.next_at:
            is_well = self._guard(self._beat)
        if is_well and self._selection.pending:
            is_well = self._guard(self._write_pending)
        while is_well and self._calls:
            is_well = self._guard(self._calls[0]) or not self.outage.is_away
            if is_well:
                self._calls.popleft()
        if is_well:
            if not self._state.is_stopped:
                self.outage.note_success()
            self._give_turns()
        if self._conclusion is not None:
            self._guard(self._conclude)

    def _give_turns(self) -> None:
        for service in self.services:
            now = time.monotonic()
            if service.seconds_until_due(now) <= 0:
                self._guard(partial(service.run_once, now))

    @no_forks()
    def _guard(self, step: Callable[[], None]) -> bool:
        """Run a step of the round and return whether it went well. Whatever it raises, the thread goes on."""
        try:
            if self._connection.connection is None:
                self._connection.ensure_connection()
                self._statements.prepare()
            step()
        except BaseException as error:  # noqa: BLE001, RUF100  # A signal's receiver may even raise SystemExit.
            if isinstance(error, Disowned):
                self.heartbeat.hasten()  # The beat comes first in each round, and begins anew.
            elif isinstance(error, Exception) and self._statements.is_outage(error):
                self._lose_database(error)
            else:
                log(logging.ERROR, "A step of the journal failed: %s", step, exc_info=error)
            return False
        return True

    def _lose_database(self, error: Exception) -> None:
        with contextlib.suppress(Exception):  # It may be too broken to be closed.
            self._connection.close()
        self.heartbeat.hasten()  # The beat is the first to try again.
        self.outage.note_failure(error)

    def _beat(self) -> None:
        try:
            self.heartbeat.beat(self._statements)
        except Disowned:
            self._begin_anew()

    def _begin_anew(self) -> None:
        next_id = self._state.find_next_id()
        statements = statements_for(self._alias, next_id, self._settings.release, loop_turn=self._loop_turn)
        taken = go_on_under_next_id(statements, self._state, self.heartbeat, self._registry, self._selection.pending)
        self._use(statements)  # Before the listener, which may fail: under the old id nothing is recorded any more.
        for record, status in taken:
            self._listener.taken(record, status)
        if self._peers is not None:
            self._peers.begin_anew()

    def _write_pending(self) -> None:
        began = time.monotonic()
        # Callers of `afire` are answered first, and go on while the rest is written.
        if (awaited := self._selection.find_acknowledged_first()) and (batch := self._choose(awaited)):
            self._writer.write(batch)
        while batch := self._choose(list(self._selection.pending.values())):
            self._writer.write(batch)
            if len(batch) < MAX_BATCH:
                break
        seconds = time.monotonic() - began
        self._selection.note_round(seconds)
        self._linger = min(max(REST * seconds, LINGER), LONGEST_LINGER)

    def _choose(self, candidates: Sequence[Record]) -> list[Record]:
        self._loop_turn.offer()
        chosen, handed_over = self._selection.choose(candidates)
        if handed_over:
            self._listener.handed_over(handed_over)
        return chosen

    def _conclude(self) -> None:
        conclusion = self._conclusion
        assert conclusion is not None  # That is why this is called.
        is_written = not self._selection.pending and self._inbox.empty()
        if (self.outage.is_away or not is_written) and not conclusion.is_late:
            return
        self._conclusion = None
        if self.outage.is_away:
            conclusion.settle(False)
            return
        try:
            write_end(self._statements, self._state, conclusion.report)
            self.heartbeat.end()
        except BaseException:
            conclusion.settle(False)
            raise
        self._guard(self._at_end)
        conclusion.settle(is_written)
