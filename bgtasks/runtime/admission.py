"""The admission: decides whether a fired task starts at once, waits here for a slot, or waits in the table."""

from __future__ import annotations

import asyncio

from ..conf import Settings
from ..exceptions import Draining, KeyConflict, NotRecorded, Overloaded, RecordUnknown, TaskNotFound
from ..journal.journal import Journal
from ..process.locale import Locale
from ..process.record import Record
from ..process.registry import Registry
from ..process.state import Phase, ProcessState
from ..status import Status
from .backlog import Backlog
from .context import is_inside_live_task
from .ends import Ends
from .executor import Executor
from .expiry import Expiry
from .limits import Limits
from .lookup import afind
from .loops import Loops
from .outbox import Outbox, find_transaction

# On Python 3.11 a lookup on an enum takes 80 ns, a global 10.
RUNNING = Status.RUNNING
PHASE_RUNNING = Phase.RUNNING


class Admission:
    """
    Admits records into this process, from any thread.

    With a free slot a task starts at once. Without one, a task function waits as READY in the table, for any process. A
    coroutine object waits here, since no other process can start it.

    A task function waits here for some milliseconds too, until the journal writes it. `Record.take` decides whether it
    is started or written.
    """

    def __init__(
        self,
        settings: Settings,
        state: ProcessState,
        registry: Registry,
        journal: Journal,
        loops: Loops,
        limits: Limits,
        backlog: Backlog,
        executor: Executor,
        ends: Ends,
    ) -> None:
        self._settings = settings
        self._state = state
        self._registry = registry
        self._journal = journal
        self._outage = journal.outage
        self._loops = loops
        self._limits = limits
        self._backlog = backlog
        self._executor = executor
        self._slots = executor.slots
        self._ends = ends
        self._outbox = Outbox(settings, state, registry, journal, backlog, self._admit_now)
        self._expiries: dict[asyncio.AbstractEventLoop, Expiry] = {}  # For the loops with callers in `afire`.

    def admit(self, record: Record) -> None:
        """
        Start a new record or let it wait; the journal writes it. Part of the hot path: no I/O, no await.

        Raises:
            Draining: the process is shutting down, and no other process could start the task.
            Overloaded: the database is away and MAX_UNWRITTEN records wait in memory, or MAX_WAITING rows wait in the
                queue.
        """
        try:
            self._check(record)
            running = asyncio._get_running_loop()
            self._place(record, running)
            if running is None and self._admit_at_commit(record):  # Async code has no transaction of its own.
                return
            self._admit_now(record)
        except BaseException:
            record.forget_coroutine()
            raise

    async def record_first(self, record: Record) -> Record:
        """
        Start a new record once its row is committed, and return then.

        Returns:
            The record, or that of the task with its key if the option `on_conflict` is "existing".

        Raises:
            Draining, Overloaded: as `admit`.
            KeyConflict: another task has its key.
            NotRecorded: the database did not take the record within WRITE_TIMEOUT. It is not stored and not started.
            RecordUnknown: as NotRecorded, but the write was on its way and may have been committed.
        """
        loop = asyncio.get_running_loop()
        try:
            self._check(record)
            self._place(record, loop)
            record.acknowledgement = answer = loop.create_future()
            self._admit_once_recorded(record)
        except BaseException:
            record.forget_coroutine()
            raise
        is_committed = await self._wait_for(answer)
        if isinstance(record.refusal, KeyConflict):
            return await self._find_holder(record, record.refusal)
        if is_committed or record.written is not None:  # It may be stored after a timeout too, if the loop was blocked.
            return record
        if not record.take():
            raise RecordUnknown(record.id)
        self._withdraw(record)
        raise NotRecorded(
            f"The database did not take {record.name} within {self._settings.write_timeout} s (WRITE_TIMEOUT): it "
            "is not stored and not started."
        )

    # Checks.

    def _check(self, record: Record) -> None:
        if self._outage.is_away or self._state.phase is not PHASE_RUNNING:
            self._check_load()
        if self._limits.max_waiting and (task := record.task or record.function) is not None:
            self._limits.check_waiting(task.options.queue)

    def _check_load(self) -> None:
        if self._state.is_stopped:
            raise Draining("This process has drained and records nothing more.")
        unwritten = self._journal.count_unwritten()
        if unwritten < self._settings.max_unwritten:
            return
        if self._outage.is_away:
            raise Overloaded(
                f"The database does not take records and {unwritten} wait in memory (MAX_UNWRITTEN): nothing was "
                "stored, nothing was started.",
                retry_after=self._settings.heartbeat,
            )
        if self._state.is_ending:
            raise Draining(f"This process is draining, and {unwritten} records wait to be written: it takes no more.")

    # The loop, and the transaction of the caller.

    def _place(self, record: Record, running: asyncio.AbstractEventLoop | None) -> None:
        """Choose the event loop of a record. If another thread runs that loop, keep the caller's locale."""
        if running is not None and running is self._loops.home:
            record.loop = running
            return
        record.loop = self._loops.pick()
        if record.loop is not running:
            record.locale = Locale.of_caller()

    def _admit_at_commit(self, record: Record) -> bool:
        """Leave the record to the commit of the caller's transaction; return whether there is such a transaction."""
        alias = find_transaction(record, self._settings)
        if alias is None:
            return False
        if record.task is None and self._state.phase is not PHASE_RUNNING:
            self._may_start(record)  # To refuse it now: at the commit no caller would see the error.
        self._outbox.fire(record, alias)
        return True

    # The decision.

    def _admit_now(self, record: Record) -> None:
        if record.extras is not None and record.extras.key:
            self._admit_once_recorded(record)
            return
        if self._may_start(record) and self._take_slot(record):
            self._registry.live[record.number] = record
            record.history[0] = (RUNNING, record.history[0][1], 1, "fired")
            self._executor.start(record)
        else:
            record.issue_token()
            self._registry.live[record.number] = record
            if not self._has_to_queue_up(record):
                self._slots.queue(record)
            self._count_waiting(record)
        self._journal.put(record)

    def _admit_once_recorded(self, record: Record) -> None:
        """Leave the start to the commit of the row, see `Commits.committed`. The slot is taken now."""
        if self._may_start(record) and self._take_slot(record):
            record.history[0] = (RUNNING, record.history[0][1], 1, "fired")
        else:
            self._count_waiting(record)
        record.is_recorded_first = True
        record.issue_token()
        self._registry.live[record.number] = record
        self._journal.put(record)

    def _count_waiting(self, record: Record) -> None:
        if self._limits.max_waiting and record.task is not None:
            self._limits.count_waiting(record.task.options.queue)

    def _take_slot(self, record: Record) -> bool:
        """Take a free slot, and pass the limits of its function and its queue."""
        if not self._slots.take():
            return False
        task = record.task
        if task is None or not (task.is_limited or self._limits.has_queues):
            return True
        gates = self._limits.gates_of(task)
        if self._limits.enter(task, gates):
            record.gates = gates
            return True
        self._slots.give_back()
        return False

    def _may_start(self, record: Record) -> bool:
        """
        Return whether the record may start here now, if there is a slot.

        Raises:
            Draining: it may not start here, and no other process can start it.
        """
        if record.extras is not None and record.extras.run_after is not None:
            return False
        phase = self._state.phase  # Looked at once: another thread may release the process between two looks.
        if phase is PHASE_RUNNING:
            if not (self._backlog.has_rows or self._limits.has_pauses):  # The usual case.
                return True
            return not self._has_to_queue_up(record)
        if phase is Phase.HELD:
            return not self._has_to_queue_up(_check_can_wait(record, "This process was asked to start nothing"))
        if is_inside_live_task() and not self._ends.is_cutting_short:
            return True  # Tasks that draining tasks fire are drained too.
        _check_can_wait(record, "This process is draining")
        return False

    def _has_to_queue_up(self, record: Record) -> bool:
        """Return whether the record has to wait in the table, behind other rows or for other processes."""
        if record.task is None:
            return False
        if record.extras is not None and record.extras.run_after is not None:
            return True
        if self._limits.is_limited(record.task) or self._limits.is_paused(record.task):
            return True
        # While the database is away, no process can claim the rows that wait in it.
        return self._state.is_held or (self._backlog.has_rows and not self._outage.is_away)

    # The answer to a caller of `afire`.

    async def _wait_for(self, answer: asyncio.Future[bool]) -> bool:
        loop = answer.get_loop()
        expiry = self._expiries.get(loop)
        if expiry is None:
            expiry = self._expiries[loop] = Expiry(loop, self._settings.write_timeout)
        expiry.watch(answer)
        try:
            return await answer
        finally:
            if not expiry.forget_answered() and self._expiries.get(loop) is expiry:
                del self._expiries[loop]  # Otherwise the loop would stay in memory for ever.

    async def _find_holder(self, record: Record, conflict: KeyConflict) -> Record:
        """
        Return the record of the task that has the key.

        Raises:
            KeyConflict: the option `on_conflict` is not "existing", or that task was deleted meanwhile.
        """
        assert record.extras is not None  # It has a key.
        if record.extras.on_conflict != "existing":
            raise conflict
        try:
            return await afind(self._registry, conflict.id)
        except TaskNotFound:
            raise conflict from None

    def _withdraw(self, record: Record) -> None:
        self._registry.live.pop(record.number, None)
        record.forget_coroutine()
        if record.status is RUNNING:
            self._executor.free_slot(record)


def _check_can_wait(record: Record, reason: str) -> Record:
    """
    Return the record if another process can start it.

    Raises:
        Draining: it is a coroutine object.
    """
    if record.task is None:
        raise Draining(f"{reason}: {record.name} is a coroutine object, which no other process can start.")
    return record
