"""The spool reader: writes the records that processes could not write before they ended."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
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

EVERY = 60.0  # Seconds. The first look is at the start.
BATCH = 500  # Records in one transaction.


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
            if path.suffix == spool.DONE or self._is_orphaned(using, path):
                self._read(using, path)

    def _is_orphaned(self, using: str, path: Path) -> bool:
        """Return whether the reader of a file has ended."""
        try:
            reader = UUID(path.suffix[1:])
        except ValueError:
            return False  # Damaged lines, kept for a person to look at.
        if reader == self._state.id:
            return True  # The last try failed.
        return not Process.objects.using(using).filter(pk=reader, state__in=Process.UP).exists()

    def _read(self, using: str, path: Path) -> None:
        own = self._state.id
        try:
            claimed = path.rename(path.with_suffix(f".{own}") if path.suffix != spool.DONE else Path(f"{path}.{own}"))
            lines = claimed.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return  # Another process was first.
        by_process: dict[tuple[UUID, str], list[Record]] = {}
        damaged: list[str] = []
        for line in lines:
            try:
                process, release, record = spool.decode(line, self._registry.functions)
            except spool.Damaged as error:
                damaged.append(line)
                log(logging.ERROR, "A line of the spool file %s is damaged: %s", claimed, error)
            else:
                by_process.setdefault((process, release), []).append(record)
        for (process, release), records in by_process.items():
            self._write(using, process, release, records)
        if damaged:
            aside = claimed.with_suffix(".damaged")
            with aside.open("a", encoding="utf-8") as file:
                file.write("\n".join(damaged) + "\n")
            log(logging.ERROR, "%s damaged lines are kept in %s", len(damaged), aside)
        claimed.unlink()
        self._announced.difference_update(record.number for records in by_process.values() for record in records)
        log(logging.WARNING, "Read %s records from the spool file %s", len(lines) - len(damaged), path.name)

    def _write(self, using: str, process: UUID, release: str, records: list[Record]) -> None:
        """Write records as the process that spooled them would have. This process counts them as fired."""
        own = self._state.id
        statements = statements_for(using, process, release, origin=own)
        left = {record.number: record for record in records}
        statuses: Counter[str] = Counter()

        def wrote(batch: Batch) -> None:
            for number, (record, entries) in batch.changes.items():
                if number in batch.again:
                    record.written = batch.again[number]
                    continue
                left.pop(number, None)
                statuses[entries[-1][0].value] += 1
            for number in batch.unchanged:
                left.pop(number, None)
            for number, (record, holder) in batch.conflicts.items():
                message = "Task %s (%s) of a spool file is not fired: task %s has its key."
                log(logging.WARNING, message, record.name, record.id, holder)
                left.pop(number, None)
            batch.changes = {
                number: change for number, change in batch.changes.items() if number not in self._announced
            }
            self._announced.update(batch.changes)
            self._journal.after_commit.announce_batch(batch)

        writer = Writer(statements, own, wrote)
        put_off = 0
        while left:
            batch = list(left.values())[:BATCH]
            writer.write(batch)
            if any(record.is_put_off for record in batch):
                if put_off == MAX_PUT_OFFS:
                    raise KeyContended("The keys of some records of a spool file are held by a transaction.")
                put_off += 1
                time.sleep(PUT_OFF)
            for record in batch:
                record.is_put_off = False
                if record.refusals > MAX_REFUSALS:
                    log(logging.ERROR, "Task %s (%s) of a spool file cannot be recorded.", record.name, record.id)
                    left.pop(record.number, None)
        if statuses["READY"]:
            self._backlog.expect_rows()


MAX_REFUSALS = 2  # The second try is without the contents.
MAX_PUT_OFFS = 20  # Tries until the file is left to the next look.
