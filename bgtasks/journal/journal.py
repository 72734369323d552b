"""
The journal: one thread and one connection that record what the tasks of this process do.

Group commit: while one batch is written, the next one gathers; what nobody waits for gathers for a moment first. What
happens to a task between two batches coalesces into one write. The thread also counts up the process's beat and gives
the services their turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol
from uuid import UUID

from django.db import connections, router
from django.utils import timezone

from .. import transitions
from ..conf import Settings
from ..log import log
from ..models import BackgroundTask, Drain, Process
from ..process.connections import no_forks, own_connections
from ..process.drain_report import DrainReport
from ..process.record import Record
from ..process.registry import Registry
from ..status import FINISHED, Status
from ..transitions import Verdict
from ..uuid7 import uuid7
from . import spool
from .announcer import announce, announce_all, announce_verdict
from .heartbeat import Heartbeat
from .statements import Disowned, is_missing_table, statements_for, to_datetime
from .tally import Tally
from .writer import Batch, Writer

READY = Status.READY  # Looking a member up on its class takes longer than the rest of a comparison.

FEW = 200  # Records that are worth waiting for more.
MAX_BATCH = 2000  # Rows in one transaction, so that other writers get their turn.
PATIENCE = 0.005  # Seconds for which a waiting task may still start here before it is written as READY.
LONGEST_PATIENCE = 0.1  # The same while there is more to write: it would not be written earlier anyway.
ROW_SECONDS = 3e-5  # Seconds that writing a row takes, roughly.
# Seconds for which the journal gathers when nobody waits for it: short tasks are written once, then. Where its rounds
# take long it rests eight times as long as the last one took, or it would take from the views what they need: a view
# that fires one task, under load, answers 0.95 instead of 0.83 times the requests of the view without (SQLite).
LINGER, LONGEST_LINGER = 0.003, 0.025
REST = 8
FIRST_RETRY, LAST_RETRY = 0.05, 2.0  # Seconds between two tries while the database is away.
LONGEST_WAIT = 60.0  # Seconds.
LONGEST_PAUSE = 2.0  # Seconds that the start of a drain waits for a database that may be away.
LOOK_AFTER = 100  # Records that are taken in between two looks at how long that keeps the event loop waiting.
MAX_INTAKE = 10_000  # Records taken in before the next write, however fast more arrive.


class Service(Protocol):
    """Something that wants a turn on the journal's thread."""

    def seconds_until_due(self, now: float) -> float:
        """Return how long it has nothing to do, at the moment `now` of the monotonic clock."""

    def run_once(self, now: float) -> None:
        """Do what is due now."""


class Journal:
    """
    Records the tasks of one process.

    `put` is called from any thread, all else happens on the journal's own. A record's `is_queued` is cleared before
    the record is read, and set after it was changed: so no change is missed, and a record that changes twice before it
    is read is queued once.
    """

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self.process_id: UUID = uuid7()
        self.has_lifespan = False
        self.is_away = False  # Whether `fire` has to look closer: the database is away, or the journal has stopped.
        self.is_stopped = False
        self.is_held = False  # See `Runner.hold`.
        self.services: list[Service] = []
        self.find_loop: Callable[[], asyncio.AbstractEventLoop | None] = lambda: None
        self.on_handed_over: Callable[[list[Record]], None] = lambda records: None
        self.on_ready_again: Callable[[list[Record]], None] = lambda records: None
        self.on_committed: Callable[[list[Record]], None] = lambda records: None
        self.on_conflict: Callable[[Record, UUID], None] = lambda record, holder: None
        self.on_taken: Callable[[Record, Status], None] = lambda record, status: None
        self.on_let_go: Callable[[list[int]], None] = lambda numbers: None
        self.on_new_id: Callable[[], None] = lambda: None
        self.on_end: Callable[[], None] = lambda: None  # The last chance to write something.
        self.tally = Tally()
        # Live tasks for whose end other processes wait, and these. Of the journal's thread.
        self.asked_about: dict[int, set[UUID]] = {}
        self._settings = settings
        self._registry = registry
        self.heartbeat = Heartbeat(self, settings, registry)
        self._inbox: queue.SimpleQueue[Record | Callable[[], None] | None] = queue.SimpleQueue()
        self._is_urgent = threading.Event()  # Whether something in the inbox is waited for.
        self._is_woken = False  # Whether `wake` has put something there. Cleared before the inbox is emptied.
        self._pending: dict[int, Record] = {}
        self._patience = PATIENCE
        self._linger = LINGER
        self._calls: deque[Callable[[], None]] = deque()
        self._thread: threading.Thread | None = None
        self._start_lock = threading.Lock()
        self._stop_by: float | None = None  # When the thread has to be over.
        self.is_draining = False
        self._away_since = 0.0
        self._retry_at = 0.0
        self._retry_delay = FIRST_RETRY
        self._conclusion: _Conclusion | None = None
        self._next_id: UUID | None = None  # See `_begin_anew`.

    # From any thread.

    def put(self, record: Record) -> None:
        """Have a new record written."""
        self._inbox.put(record)
        if record.is_recorded_first:
            self._hasten()
        if self._thread is None:
            self.start()

    def put_again(self, record: Record) -> None:
        """Have a change of a record written."""
        if not record.is_queued:
            record.is_queued = True
            self._inbox.put(record)

    def wake(self) -> None:
        """Have the services asked whether they have something to do."""
        if not self._is_woken:  # Else there is something in the inbox, or about to be, and a round comes after it.
            self._is_woken = True
            self._inbox.put(None)
            self._hasten()

    def submit(self, function: Callable[[], None]) -> None:
        """Run a function on the journal's thread, once the database is there."""
        self._inbox.put(function)
        self._hasten()
        if self._thread is None:
            self.start()

    def _hasten(self) -> None:
        """Have what was just put into the inbox taken in without waiting for more."""
        if not self._is_urgent.is_set():  # Else it is not cleared yet, and the inbox is emptied after that.
            self._is_urgent.set()

    def start(self) -> None:
        with self._start_lock:
            if self._thread is None and not self.is_stopped:
                thread = threading.Thread(target=self._run, daemon=True, name="bgtasks-journal")
                self._thread = thread
                thread.start()

    def stop(self, deadline: float) -> None:
        """
        Write what is left, end the thread and close its connection.

        Args:
            deadline: until when, as `time.monotonic()` counts.
        """
        self._stop_by = deadline
        self.is_stopped = self.is_away = True
        self.wake()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(max(deadline - time.monotonic(), 0))
            if self._thread.is_alive():
                self._spool_what_hangs()

    @property
    def is_running(self) -> bool:
        return self._thread is not None and not self.is_stopped

    def is_current_thread(self) -> bool:
        return self._thread is threading.current_thread()

    def knows(self, number: int) -> bool:
        """Tell whether a task lives here, or waits here to be written. From the journal's thread."""
        return number in self._registry.live or number in self._pending

    def count_unwritten(self) -> int:
        return len(self._pending) + self._inbox.qsize()

    def cancel_ready(self, record: Record) -> None:
        """Cancel a task that waits in the table, or ask the process that has claimed it."""

        def cancel() -> None:
            why = "cancelled on request"
            ended: list[Verdict] = []
            with self._statements.transaction():
                transitions.cancel(self._alias, record.id, str(self.process_id), why, ended=ended)
            for verdict in ended:
                record.history.append((Status.CANCELLED, time.time(), record.attempt, why))
                self.tally.count_verdict(verdict)
                announce(record, tuple(record.history), self.process_id)
                record.wake_waiters()

        self.submit(cancel)

    def tell_soon(self, verdicts: Iterable[Verdict]) -> None:
        """Do as `tell_verdicts`, from any thread."""
        self.submit(partial(self.tell_verdicts, verdicts))

    def tell_verdicts(self, verdicts: Iterable[Verdict]) -> None:
        """Count and announce, after the commit, what was ended without a record of this process. On this thread."""
        for verdict in verdicts:
            if verdict.status in FINISHED:
                self.tally.count_verdict(verdict)
                announce_verdict(verdict, self.process_id)

    async def begin_drain(self) -> None:
        """Say in the row that this process drains, and wait until what the thread is at, such as a claim, is done."""
        self.is_draining = True
        loop = asyncio.get_running_loop()
        is_seen = asyncio.Event()

        def see() -> None:
            with contextlib.suppress(RuntimeError):  # The loop may be closed by now.
                loop.call_soon_threadsafe(is_seen.set)
            self._beat()

        self.submit(see)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LONGEST_PAUSE):
                await is_seen.wait()

    async def conclude_drain(self, report: DrainReport, timeout: float) -> bool:
        """
        Write all that is left, then the Drain row and the process's end.

        Returns:
            Whether all of it was committed within `timeout` seconds.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bool] = loop.create_future()

        def settle(is_written: bool) -> None:
            if not answer.done():
                answer.set_result(is_written)

        def tell(is_written: bool) -> None:
            with contextlib.suppress(RuntimeError):  # The loop may be closed by now.
                loop.call_soon_threadsafe(settle, is_written)

        self._conclusion = _Conclusion(report, time.monotonic() + timeout, tell)
        self.start()
        self.wake()
        try:
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError:
            return False

    # The thread.

    def _run(self) -> None:
        self._alias = router.db_for_write(BackgroundTask)
        self._connection = connections[self._alias]
        self._statements = statements_for(self._alias, self.process_id, self._settings.release)
        self._writer = Writer(self._statements, self.process_id, self._wrote)
        with own_connections(is_considerate=True):
            while self._stop_by is None:
                self._guard_all(self._turn)
            self._guard_all(self._write_the_rest)

    def _turn(self) -> None:
        self._gather()
        self._round()

    def _guard_all(self, step: Callable[[], None]) -> None:
        """Whatever it is: without this thread nothing is recorded."""
        try:
            step()
        except BaseException as error:  # noqa: BLE001, RUF100  # See above.
            log(logging.ERROR, "The journal failed, and goes on.", exc_info=error)
            time.sleep(FIRST_RETRY)

    def _write_the_rest(self) -> None:
        """Write what came last, as long as the database takes it and there is time; say what was not written."""
        assert self._stop_by is not None  # That is why this is called.
        is_well = True
        while is_well and time.monotonic() < self._stop_by and not (self._inbox.empty() and not self._pending):
            self._gather()
            is_well = self._guard(self._write_pending)
        while not self._inbox.empty():
            self._gather()
        if self._pending:
            self._spool(list(self._pending.values()))
        if is_well and self.tally.writes:
            self._guard(self.on_end)

    def _spool_what_hangs(self) -> None:
        """The thread waits for a database that does not answer, and dies with this process: keep what it has."""
        records = dict(self._pending)
        with contextlib.suppress(queue.Empty):
            while True:
                item = self._inbox.get_nowait()
                if isinstance(item, Record):
                    records[item.number] = item
        if records:
            self._spool(list(records.values()))

    def _spool(self, records: list[Record]) -> None:
        """Keep in a file what the database did not take. The next process that boots reads it in."""
        names = Counter(record.name for record in records)
        shown = ", ".join(f"{name} ×{count}" for name, count in names.most_common(10))
        records = [record for record in records if self._is_to_be_kept(record)]
        if not records:
            return
        try:
            folder = spool.find_folder(self._settings)
            path = spool.write(folder, self._alias, self.process_id, self._settings.release, records)
        except Exception as error:  # noqa: BLE001, RUF100  # The disk may be what is full. The process has to end.
            told = "The last states of %s tasks could not be recorded, nor spooled (%s): %s"
            log(logging.ERROR, told, len(records), error, shown)
        else:
            told = "The database did not take the last states of %s tasks; the next start reads them from %s: %s"
            log(logging.ERROR, told, len(records), path, shown)

    @staticmethod
    def _is_to_be_kept(record: Record) -> bool:
        """Tell whether it is to be spooled. Its `afire` may not withdraw any more what will be written."""
        if record.is_recorded_first and not record.is_sent:
            record.is_sent = record.take() or not record.is_live
        return not record.is_recorded_first or record.is_sent

    def _gather(self) -> None:
        """Wait until there is something to do, then take in all that has arrived."""
        timeout = self._seconds_until_due()
        try:
            item = self._inbox.get(timeout=timeout) if timeout > 0 else self._inbox.get_nowait()
            if not self.is_draining and self._inbox.qsize() < FEW:
                # Waiting for this, and not for the inbox, spares each `fire` the waking of this thread.
                self._is_urgent.wait(self._linger)
            self._statements.stretch.begin()
            self._is_urgent.clear()
            self._is_woken = False
            backlog = self.count_unwritten() * ROW_SECONDS
            patience = min(max(self._patience, backlog), LONGEST_PATIENCE)
            for count in range(MAX_INTAKE):
                if count:
                    item = self._inbox.get_nowait()
                    if not count % LOOK_AFTER:
                        self._statements.stretch.look()
                if isinstance(item, Record):
                    item.is_queued = False
                    if item.is_taken:
                        continue
                    self._pending[item.number] = item
                    if self._is_waiting_here(item):
                        item.write_at = time.monotonic() + patience
                elif item is not None:
                    self._calls.append(item)
        except queue.Empty:
            pass

    def _seconds_until_due(self) -> float:
        now = time.monotonic()
        if self.is_away:
            return self._retry_at - now
        waits = [LONGEST_WAIT, self.heartbeat.next_at - now]
        if self._calls:
            return 0.0
        if self._pending:
            waits.append(self._seconds_until_writable())
        if self._conclusion is not None:
            waits.append(0.0 if not self._pending else self._conclusion.deadline - now)
        waits += [service.seconds_until_due(now) for service in self.services]
        return min(waits)

    def _seconds_until_writable(self) -> float:
        now = time.monotonic()
        shortest = LONGEST_WAIT
        for record in self._pending.values():
            shortest = min(shortest, self._patience_left(record, now))
            if shortest <= 0:
                break
        return shortest

    def _patience_left(self, record: Record, now: float) -> float:
        """Return the seconds until the record is to be written."""
        if record.is_put_off:
            return record.write_at - now
        if self._stop_by is not None or (self.is_draining and not record.refusals):
            return 0.0
        # One that was started meanwhile has been patient enough.
        return record.write_at - now if record.refusals or self._is_waiting_here(record) else 0.0

    @staticmethod
    def _is_waiting_here(record: Record) -> bool:
        """Tell whether it may still start in this process before it is written."""
        return (
            record.history[-1][0] is READY  # Of few, so this comes first.
            and len(record.history) == 1
            and record.written is None
            and not record.is_sent
            and record.task is not None
            and not record.is_recorded_first
            and (record.extras is None or record.extras.run_after is None)
        )

    @staticmethod
    def _is_for_later(record: Record) -> bool:
        """Tell whether it was fired for a moment to come, and waits for that in the table."""
        return (
            record.extras is not None
            and record.extras.run_after is not None
            and record.history[-1][0] is READY
            and len(record.history) == 1
            and record.written is None
            and not record.is_sent
            and not record.is_recorded_first
        )

    def _round(self) -> None:
        if self.is_away and time.monotonic() < self._retry_at:
            return
        is_well = True
        if time.monotonic() >= self.heartbeat.next_at:
            is_well = self._guard(self._beat)
        if is_well and self._pending:
            is_well = self._guard(self._write_pending)
        while is_well and self._calls:
            is_well = self._guard(self._calls[0]) or not self.is_away
            if is_well:
                self._calls.popleft()
        if is_well:
            self._came_back()
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
        """Run a step of the round and tell whether it went well; whatever it raises, the thread goes on."""
        try:
            self._connect()
            step()
        except BaseException as error:  # noqa: BLE001, RUF100  # A signal's receiver may even raise SystemExit.
            if isinstance(error, Disowned):
                self.heartbeat.hasten()  # The beat comes first in each round, and sees to it.
            elif isinstance(error, Exception) and self._statements.is_outage(error):
                self._went_away(error)
            else:
                log(logging.ERROR, "A step of the journal failed: %s", step, exc_info=error)
            return False
        return True

    def _connect(self) -> None:
        if self._connection.connection is None:
            self._connection.ensure_connection()
            self._statements.prepare()

    # The identity of this process.

    def _beat(self) -> None:
        try:
            self.heartbeat.beat(self._statements)
        except Disowned:
            self._begin_anew()

    def _begin_anew(self) -> None:
        """
        Go on under another id: others took this process for dead, or its row was deleted.

        What nobody has rescued yet stays with this process. What was rescued is not its own any more, and is cancelled
        here. What was never written will be, under the new id.
        """
        if self._next_id is None:  # Kept for the next try: this one may be committed and its answer be lost.
            self._next_id = uuid7()
        old_id, new_id = self.process_id, self._next_id
        statements = statements_for(self._alias, new_id, self._settings.release)
        records = {**self._registry.live, **self._pending}
        with statements.transaction() as cursor:
            self.heartbeat.register(statements, new_id)
            statements.adopt(cursor, old_id)
            rows = statements.read_back(cursor, list(records))
        self.process_id, self._next_id = new_id, None
        self._statements = statements
        self._writer = Writer(statements, new_id, self._wrote)
        taken = 0
        for number, (status, _, process) in rows.items():
            record = records[number]
            if not statements.is_ours(process) and record.is_live and record.is_owned:
                self._pending.pop(number, None)
                self.on_taken(record, Status(status))
                taken += 1
        log(
            logging.ERROR,
            "This process was taken for dead, or its row was deleted: it goes on as %s instead of %s. %s of its tasks "
            "were given their verdict meanwhile and are cancelled here.",
            new_id,
            old_id,
            taken,
        )
        self.on_new_id()

    # Outages.

    def _went_away(self, error: Exception) -> None:
        with contextlib.suppress(Exception):  # It may be too broken to be closed.
            self._connection.close()
        now = time.monotonic()
        if not self.is_away:
            self.is_away = True
            self._away_since = now
            self._retry_delay = FIRST_RETRY
            hint = " Run `manage.py migrate`." if is_missing_table(error) else ""
            log(
                logging.ERROR,
                "The database does not take records (%s: %s).%s Tasks go on; what they do waits in memory.",
                type(error).__name__,
                str(error).strip(),
                hint,
            )
        self.heartbeat.hasten()  # The beat is the first to try again.
        self._retry_at = now + self._retry_delay
        self._retry_delay = min(self._retry_delay * 2, LAST_RETRY, self._settings.heartbeat)

    def _came_back(self) -> None:
        if self.is_away and not self.is_stopped:
            self.is_away = False
            away = time.monotonic() - self._away_since
            log(logging.WARNING, "The database takes records again, after %.1f s.", away)

    # Writing.

    def _write_pending(self) -> None:
        began = time.monotonic()
        # Whoever waits in `afire` is answered first, and goes on while the rest is written.
        # Not one with a key: the end of the task that has it may be among the rest.
        awaited = [
            record
            for record in self._pending.values()
            if record.is_recorded_first and (record.extras is None or not record.extras.key)
        ]
        if awaited and len(awaited) < len(self._pending) and (batch := self._choose(awaited)):
            self._writer.write(batch)
        while batch := self._choose(list(self._pending.values())):
            self._writer.write(batch)
            if len(batch) < MAX_BATCH:
                break
        seconds = time.monotonic() - began
        self._patience = min(max(seconds, PATIENCE), LONGEST_PATIENCE)
        self._linger = min(max(REST * seconds, LINGER), LONGEST_LINGER)

    def _choose(self, candidates: list[Record]) -> list[Record]:
        """Return what to write now. Taking a record's token is what decides that nobody else starts or withdraws it."""
        now = time.monotonic()
        chosen: list[Record] = []
        handed_over: list[Record] = []
        self._statements.stretch.look()
        for record in candidates:
            if len(chosen) == MAX_BATCH:
                break
            if record.write_at > now and self._patience_left(record, now) > 0:
                continue
            if self._is_waiting_here(record) or self._is_for_later(record):
                if not record.take():
                    continue  # It is being started, or cancelled, right now.
                record.is_sent = True
                handed_over.append(record)
            elif record.is_recorded_first and record.written is None and not record.is_sent:
                if not record.take() and record.is_live:  # Its `afire` gave up and withdrew it.
                    del self._pending[record.number]
                    continue
                record.is_sent = True
                if record.status is Status.READY and record.task is not None:
                    handed_over.append(record)
            record.is_put_off = False
            chosen.append(record)
        if handed_over:
            self.on_handed_over(handed_over)
        return chosen

    def _wrote(self, batch: Batch) -> None:
        """After the commit: remember what the rows say, answer those who wait for it, announce it."""
        acknowledged: list[Record] = []
        ready_again: list[Record] = []
        self._statements.stretch.begin()
        for number, (record, entries) in batch.changes.items():
            if number in batch.again:
                record.written = batch.again[number]
                continue
            record.written = (entries[-1][0], entries[-1][2])
            if number in batch.versions:  # It may have extras only since then.
                assert record.extras is not None  # It keeps them.
                record.extras.written_version = batch.versions[number]
            record.scope = None
            if entries[-1][0] is READY and record.task is not None and (len(entries) > 1 or record.prior):
                ready_again.append(record)
            if record.is_recorded_first:
                record.is_recorded_first = False
                acknowledged.append(record)
            self._pending.pop(number, None)
        for number in batch.unchanged:
            self._pending.pop(number, None)
        for number, (record, holder) in batch.conflicts.items():
            self._pending.pop(number, None)
            self.on_conflict(record, holder)
        if acknowledged:
            self.on_committed(acknowledged)
        self._statements.stretch.look()
        self.tell_written(batch)
        self._statements.stretch.look()
        if self.asked_about:
            self._tell_who_has_asked(batch)
        if ready_again:
            self.on_ready_again(ready_again)
            self._cancel_what_is_ready_again(ready_again)

    def tell_written(self, batch: Batch) -> None:
        """Count and announce what was committed."""
        changes = batch.find_committed()
        self.tally.count_written(changes)
        announce_all(changes, self.process_id)
        self.tell_verdicts(batch.replaced)

    def _tell_who_has_asked(self, batch: Batch) -> None:
        let_go = [
            number
            for number, (_, entries) in batch.changes.items()
            if number in self.asked_about and number not in batch.again and entries[-1][0] is not Status.RUNNING
        ]
        if let_go:
            self.on_let_go(let_go)

    def _cancel_what_is_ready_again(self, records: list[Record]) -> None:
        """Cancel what somebody asked to cancel while its attempt came to its end: it may wait for long."""
        rows = BackgroundTask.objects.using(self._alias).filter(cancel_requested_at__isnull=False)
        for start in range(0, len(records), FEW):
            part = {record.id: record for record in records[start : start + FEW]}
            for id_ in rows.filter(pk__in=list(part)).values_list("pk", flat=True):
                self.cancel_ready(part[id_])

    # The end.

    def _conclude(self) -> None:
        conclusion = self._conclusion
        assert conclusion is not None
        is_late = time.monotonic() >= conclusion.deadline
        is_written = not self._pending and self._inbox.empty()
        if (self.is_away or not is_written) and not is_late:
            return
        self._conclusion = None
        if self.is_away:
            conclusion.tell(False)
            return
        try:
            self._write_end(conclusion.report)
        except BaseException:
            conclusion.tell(False)
            raise
        self._guard(self.on_end)
        conclusion.tell(is_written)

    def _write_end(self, report: DrainReport) -> None:
        now = timezone.now()
        with self._statements.transaction():
            Drain.objects.using(self._alias).create(
                process=self.process_id,
                asked_by=report.asked_by,
                started_at=to_datetime(report.started_at),
                seconds=report.seconds,
                running_at_start=report.running_at_start,
                finished_count=report.finished_count,
                cancelled_count=report.cancelled_count,
                left_count=report.left_count,
                names=dict(report.names),
                cut_short_after=report.cut_short_after,
                course=[[round(seconds, 3), left] for seconds, left in report.course],
            )
            Process.objects.using(self._alias).filter(pk=self.process_id).update(
                state=Process.State.STOPPED, stopped_at=now, beat_at=now, running=report.left_count
            )
        self.heartbeat.end()


class _Conclusion:
    """The last thing to write, and who is told of it."""

    def __init__(self, report: DrainReport, deadline: float, tell: Callable[[bool], None]) -> None:
        self.report = report
        self.deadline = deadline
        self.tell = tell
