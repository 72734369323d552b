"""The selection: the records that wait to be written, and those of them that the journal writes now."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from ..process.record import Record
from ..process.state import Phase, ProcessState
from ..status import Status

MAX_BATCH = 2000  # Rows in one transaction, so that other writers get their turn.
PATIENCE = 0.005  # Seconds for which a waiting task may still start here before it is written as READY.
LONGEST_PATIENCE = 0.1  # The same while much is to be written: the task would not be written earlier anyway.
ROW_SECONDS = 3e-5  # Seconds to write a row, roughly.
LONGEST_WAIT = 60.0  # Seconds until the next look, when there is nothing to write.


class Selection:
    """
    Chooses on the journal's thread.

    Attributes:
        pending: the records with a change to write, by number.
    """

    def __init__(self, state: ProcessState) -> None:
        self.pending: dict[int, Record] = {}
        self._state = state
        self._patience = PATIENCE

    def find_patience(self, unwritten: int) -> float:
        """Return the patience with records that are taken in now, while `unwritten` records wait."""
        return min(max(self._patience, unwritten * ROW_SECONDS), LONGEST_PATIENCE)

    def note_round(self, seconds: float) -> None:
        """Adjust the patience to the duration of the last round of writing."""
        self._patience = min(max(seconds, PATIENCE), LONGEST_PATIENCE)

    def take_in(self, record: Record, patience: float) -> None:
        """Take in a record that has changed."""
        record.is_queued = False  # Before the record is read, see `Journal`.
        if record.is_taken:
            return
        self.pending[record.number] = record
        if _may_start_here(record):
            record.write_at = time.monotonic() + patience

    def seconds_until_writable(self) -> float:
        """Return the seconds until the first record is to be written, LONGEST_WAIT at most."""
        now = time.monotonic()
        shortest = LONGEST_WAIT
        for record in self.pending.values():
            shortest = min(shortest, self._patience_left(record, now))
            if shortest <= 0:
                break
        return shortest

    def find_acknowledged_first(self) -> Sequence[Record]:
        """
        Return the records to write before the others, since callers wait for them in `afire`.

        Records with a key are not among them: the end of the task that has the key may be among the others.
        """
        awaited = [
            record
            for record in self.pending.values()
            if record.is_recorded_first and (record.extras is None or not record.extras.key)
        ]
        return awaited if len(awaited) < len(self.pending) else ()

    def choose(self, candidates: Iterable[Record]) -> tuple[list[Record], list[Record]]:
        """
        Return the records to write now, and those of them that become READY for any process.

        The token of a waiting record is taken, so that no other thread starts or withdraws it.
        """
        now = time.monotonic()
        chosen: list[Record] = []
        handed_over: list[Record] = []
        for record in candidates:
            if len(chosen) == MAX_BATCH:
                break
            if record.write_at > now and self._patience_left(record, now) > 0:
                continue
            if _may_start_here(record) or _is_for_later(record):
                if not record.take():
                    continue  # Another thread starts or cancels it right now.
                record.is_sent = True
                handed_over.append(record)
            elif record.is_recorded_first and record.written is None and not record.is_sent:
                if not record.take() and record.is_live:  # Its `afire` gave up and withdrew it.
                    del self.pending[record.number]
                    continue
                record.is_sent = True
                if record.status is Status.READY and record.task is not None:
                    handed_over.append(record)
            record.is_put_off = False
            chosen.append(record)
        return chosen, handed_over

    def _patience_left(self, record: Record, now: float) -> float:
        """Return the seconds until the record is to be written."""
        if record.is_put_off:
            return record.write_at - now
        phase = self._state.phase
        if phase is Phase.STOPPED or (phase is Phase.DRAINING and not record.refusals):
            return 0.0
        # A record that was started meanwhile needs no patience any more.
        return record.write_at - now if record.refusals or _may_start_here(record) else 0.0


def _may_start_here(record: Record) -> bool:
    """Return whether the record waits for a slot and may still start in this process before it is written."""
    history = record.history
    return (
        len(history) == 1  # Most tasks have ended by now, so this comes first.
        and history[0][0] is Status.READY
        and record.written is None
        and not record.is_sent
        and record.task is not None
        and not record.is_recorded_first
        and (record.extras is None or record.extras.run_after is None)
    )


def _is_for_later(record: Record) -> bool:
    """Return whether the record was fired for a later moment, which it waits for in the table."""
    return (
        record.extras is not None
        and record.extras.run_after is not None
        and record.history[-1][0] is Status.READY
        and len(record.history) == 1
        and record.written is None
        and not record.is_sent
        and not record.is_recorded_first
    )
