"""The spool reader: writes the records that processes could not write before they ended."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from uuid import UUID

from django.db import router

from ..conf import Settings
from ..journal import spool
from ..journal.journal import Journal
from ..journal.keys import KeyContended
from ..journal.statements import statements_for
from ..journal.writer import PUT_OFF, Batch, Writer
from ..log import log
from ..models import BackgroundTask, Process
from ..process.record import Record
from ..process.registry import Registry
from ..process.state import ProcessState
from ..runtime.backlog import Backlog
from ..status import Status

EVERY = 60.0  # Seconds. The first look is at the start.
BATCH = 500  # Records in one transaction.
MAX_REFUSALS = 2  # A record that the database refuses more often is given up. See `Writer` for the tries.
MAX_PUT_OFFS = 20  # Tries of records whose keys are in use, until the file is left to the next look.

Spooled = dict[tuple[UUID, str], list[Record]]  # By the process that spooled them, and its release.


class SpoolReader:
    """
    Reads spool files, each claimed by renaming it, so that only one process reads it.

    The new name carries the reader's id: a file whose reader died is read again. That writes nothing twice: an insert
    ignores an existing row, and an update finds the row as the dead process left it, or not at all. Only the counts and
    signals of the dead reader are repeated.
    """

    def __init__(
        self,
        settings: Settings,
        state: ProcessState,
        registry: Registry,
        backlog: Backlog,
        journal: Journal,
    ) -> None:
        self._settings = settings
        self._state = state
        self._registry = registry
        self._backlog = backlog
        self._journal = journal
        self._next = 0.0
        self._announced: set[int] = set()  # Tasks of files that are not read to their end yet: each is announced once.

    def seconds_until_due(self, now: float) -> float:
        return math.inf if self._state.is_ending else max(self._next - now, 0.0)

    def run_once(self, now: float) -> None:
        self._next = now + EVERY
        using = router.db_for_write(BackgroundTask)
        try:
            folder = spool.find_folder(self._settings)
            found = sorted(folder.glob(f"{spool.prefix_of(using)}*{spool.DONE}*"))
        except OSError as error:
            log(logging.ERROR, "The spool cannot be read: %s", error)
            self._next = math.inf  # One log line is enough.
            return
        for path in found:
            if path.suffix == spool.DONE or self._is_abandoned(using, path):
                self._read(using, path)

    def _is_abandoned(self, using: str, path: Path) -> bool:
        """Return whether the reader of a file has ended, or has failed in this very process."""
        try:
            reader = UUID(path.suffix[1:])
        except ValueError:
            return False  # Damaged lines, kept for a person to look at.
        if reader == self._state.id:
            return True
        return not Process.objects.using(using).filter(pk=reader, state__in=Process.UP).exists()

    def _read(self, using: str, path: Path) -> None:
        """Claim a file, write its records, and delete it."""
        try:
            claimed = path.rename(self._name_claimed(path))
            lines = claimed.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return  # Another process was first.
        spooled, damaged = self._decode(claimed, lines)
        for (process, release), records in spooled.items():
            self._write(using, process, release, records)
        if damaged:
            _keep_apart(claimed.with_suffix(".damaged"), damaged)
        claimed.unlink()
        self._announced.difference_update(record.number for records in spooled.values() for record in records)
        log(logging.WARNING, "Read %s records from the spool file %s", len(lines) - len(damaged), path.name)

    def _name_claimed(self, path: Path) -> Path:
        own = self._state.id
        return Path(f"{path}.{own}") if path.suffix == spool.DONE else path.with_suffix(f".{own}")

    def _decode(self, path: Path, lines: list[str]) -> tuple[Spooled, list[str]]:
        """Return the records, and the lines that are damaged."""
        spooled: Spooled = {}
        damaged: list[str] = []
        for line in lines:
            try:
                process, release, record = spool.decode(line, self._registry.functions)
            except spool.Damaged as error:
                damaged.append(line)
                log(logging.ERROR, "A line of the spool file %s is damaged: %s", path, error)
            else:
                spooled.setdefault((process, release), []).append(record)
        return spooled, damaged

    def _write(self, using: str, process: UUID, release: str, records: list[Record]) -> None:
        """Write records as the process that spooled them would have. This process counts them as fired."""
        own = self._state.id
        unwritten = _Unwritten(records, self._announced)

        def take_in(batch: Batch) -> None:
            unwritten.take_in(batch)
            self._journal.after_commit.announce_batch(batch)

        writer = Writer(statements_for(using, process, release, origin=own), own, take_in)
        put_off_count = 0
        while batch := unwritten.find_next():
            writer.write(batch)
            if any(record.is_put_off for record in batch):
                if put_off_count == MAX_PUT_OFFS:
                    raise KeyContended("The keys of some records of a spool file are held by a transaction.")
                put_off_count += 1
                time.sleep(PUT_OFF)
            unwritten.prepare_next_try(batch)
        if unwritten.has_written_ready:
            self._backlog.expect_rows()


class _Unwritten:
    """
    The records of one dead process that are not written yet.

    Attributes:
        has_written_ready: whether a written row waits for a process that claims it.
    """

    def __init__(self, records: list[Record], announced: set[int]) -> None:
        """
        Args:
            announced: the tasks that were announced already; those that are written now are added.
        """
        self.has_written_ready = False
        self._records = {record.number: record for record in records}
        self._announced = announced

    def find_next(self) -> list[Record]:
        return list(self._records.values())[:BATCH]

    def take_in(self, batch: Batch) -> None:
        """Take in a committed batch, and leave in its changes only those to be announced."""
        for number, (record, entries) in batch.changes.items():
            if number in batch.again:
                record.written = batch.again[number]
            else:
                self._records.pop(number, None)
                self.has_written_ready |= entries[-1][0] is Status.READY
        for number in batch.unchanged:
            self._records.pop(number, None)
        for number, (record, holder) in batch.conflicts.items():
            message = "Task %s (%s) of a spool file is not fired: task %s has its key."
            log(logging.WARNING, message, record.name, record.id, holder)
            self._records.pop(number, None)
        batch.changes = {number: change for number, change in batch.changes.items() if number not in self._announced}
        self._announced.update(batch.changes)

    def prepare_next_try(self, batch: list[Record]) -> None:
        """Give up the records that the database refuses without their contents too."""
        for record in batch:
            record.is_put_off = False
            if record.refusals > MAX_REFUSALS:
                log(logging.ERROR, "Task %s (%s) of a spool file cannot be recorded.", record.name, record.id)
                self._records.pop(record.number, None)


def _keep_apart(path: Path, damaged: list[str]) -> None:
    """Append damaged lines to a file of their own, for a person to look at."""
    with path.open("a", encoding="utf-8") as file:
        file.write("\n".join(damaged) + "\n")
    log(logging.ERROR, "%s damaged lines are kept in %s", len(damaged), path)
