"""The steps after a commit: note the state of the rows, answer the callers, announce the changes."""

from __future__ import annotations

from collections.abc import Iterable

from ..process.record import Record
from ..process.state import ProcessState
from ..status import FINISHED, Status
from ..transitions import Verdict
from .announcer import announce_all, announce_verdict
from .listeners import CommitListener, Peers
from .loop_turn import LoopTurn
from .tally import Tally
from .waiting_rows import WaitingRows
from .writer import Batch


class AfterCommit:
    """Works on the journal's thread, after the commit of each batch."""

    def __init__(
        self,
        state: ProcessState,
        pending: dict[int, Record],
        tally: Tally,
        loop_turn: LoopTurn,
        listener: CommitListener,
        peers: Peers | None,
        waiting_rows: WaitingRows,
    ) -> None:
        """
        Args:
            pending: the records with a change to write; those that are written leave it.
        """
        self._state = state
        self._pending = pending
        self._tally = tally
        self._loop_turn = loop_turn
        self._listener = listener
        self._peers = peers
        self._waiting_rows = waiting_rows

    def take_in(self, batch: Batch) -> None:
        """Take in a committed batch."""
        acknowledged: list[Record] = []
        ready_again: list[Record] = []
        ready = Status.READY  # On Python 3.11 a lookup on an enum takes 80 ns.
        self._loop_turn.restart()
        for number, (record, entries) in batch.changes.items():
            if number in batch.again:
                record.written = batch.again[number]
                continue
            record.written = (entries[-1][0], entries[-1][2])
            if number in batch.versions:  # Otherwise it had no extras yet when it was written.
                assert record.extras is not None  # The version is theirs.
                record.extras.written_version = batch.versions[number]
            record.scope = None
            if entries[-1][0] is ready and record.task is not None and (len(entries) > 1 or record.prior):
                ready_again.append(record)
            if record.is_recorded_first:
                record.is_recorded_first = False
                acknowledged.append(record)
            self._pending.pop(number, None)
        for number in batch.unchanged:
            self._pending.pop(number, None)
        for number, (record, holder) in batch.conflicts.items():
            self._pending.pop(number, None)
            self._listener.conflicted(record, holder)
        if acknowledged:
            self._listener.committed(acknowledged)
        self._loop_turn.offer()
        self.announce_batch(batch)
        self._loop_turn.offer()
        if self._peers is not None and self._peers.has_askers():
            self._answer_peers(batch, self._peers)
        if ready_again:
            self._listener.ready_again(ready_again)
            self._waiting_rows.cancel_requested(ready_again)

    def announce_batch(self, batch: Batch) -> None:
        """Count and announce the changes of a committed batch."""
        changes = batch.find_committed()
        self._tally.count_written(changes)
        announce_all(changes, self._state.id)
        self.announce_verdicts(batch.replaced)

    def announce_verdicts(self, verdicts: Iterable[Verdict]) -> None:
        """Count and announce tasks that were ended without a record of this process, after the commit."""
        for verdict in verdicts:
            if verdict.status in FINISHED:
                self._tally.count_verdict(verdict)
                announce_verdict(verdict, self._state.id)

    def _answer_peers(self, batch: Batch, peers: Peers) -> None:
        ended = [
            number
            for number, (_, entries) in batch.changes.items()
            if peers.is_asked_about(number) and number not in batch.again and entries[-1][0] is not Status.RUNNING
        ]
        if ended:
            peers.answer(ended)
