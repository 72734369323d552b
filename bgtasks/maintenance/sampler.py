"""The sampler: records in the rows of long-running tasks where they await, and since when."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from django.db import router

from ..conf import Settings
from ..journal.journal import Journal
from ..journal.statements import statements_for
from ..log import log
from ..models import BackgroundTask
from ..models.moments import stamp
from ..process.record import Record
from ..process.registry import Registry
from ..process.state import ProcessState
from ..runtime.await_chain import Place, find_place, find_place_of_thread
from ..status import Status

YOUNG_HEARTBEATS = 2  # Tasks that have run for less are not looked at: most end before.
SLICE = 0.0015  # Seconds for which a loop is occupied at a time.
PAUSE = 0.01  # Seconds between two slices.
MAX_WRITES = 1000  # Rows in one transaction, of which each turn has one.

Found = dict[int, tuple[int, Place]]  # Attempt and place, by the task's number.


@dataclass
class Sighting:
    """A task that was seen at a place."""

    attempt: int
    place: Place
    since: float  # When it was first seen there, in seconds since the epoch.
    ignores_since: float = 0.0  # Since when it ignores its cancellation, in seconds since the epoch. 0: it does not.
    is_written: bool = False

    def as_json(self) -> str:
        values = {**self.place._asdict(), "since": stamp(self.since)}
        if self.ignores_since:
            values["ignores_cancellation_since"] = stamp(self.ignores_since)
        return json.dumps(values)


@dataclass(eq=False)
class Sweep:
    """A look at the tasks of one loop, on that loop. It comes in slices, since thousands of tasks would stall it."""

    loop: asyncio.AbstractEventLoop
    records: list[Record]
    report: Callable[[Sweep], None]
    found: Found = field(default_factory=dict)
    slice_count: int = 0
    thread_id: int | None = None  # The loop's thread, once a slice has run there.

    def begin(self) -> None:
        self.loop.call_soon_threadsafe(self.go_on)

    def go_on(self) -> None:
        self.thread_id = threading.get_ident()
        self.slice_count += 1
        end = time.perf_counter() + SLICE
        while self.records and time.perf_counter() < end:
            self._look(self.records.pop())
        if self.records:
            self.loop.call_later(PAUSE, self.go_on)
        else:
            self.report(self)

    def _look(self, record: Record) -> None:
        task = record.asyncio_task
        if task is None or task.done():
            return
        try:
            place = find_place(task.get_coro())
        except Exception as error:  # The attributes of foreign awaitables may be code that raises.
            message = "The place where task %s (%s) awaits cannot be found."
            log(logging.DEBUG, message, record.name, record.id, exc_info=error, hide=record.hide)
            return
        if place is not None:
            self.found[record.number] = (record.attempt, place)


class Sampler:
    """
    Looks every HEARTBEAT at the tasks that have run for longer than two heartbeats, and at those that ignore their
    cancellation.

    Between two looks a task may have been at other places.
    """

    def __init__(self, settings: Settings, state: ProcessState, registry: Registry, journal: Journal) -> None:
        self._settings = settings
        self._state = state
        self._registry = registry
        self._journal = journal
        self._next = 0.0
        self._seen: dict[int, Sighting] = {}
        self._sweeps: list[Sweep] = []  # Those that have not reported yet.
        self._threads: dict[asyncio.AbstractEventLoop, int] = {}  # The thread of each loop, as far as known.

    def seconds_until_due(self, now: float) -> float:
        return max(self._next - now, 0.0)

    def run_once(self, now: float) -> None:
        self._next = now + self._settings.heartbeat
        live = self._registry.live
        self._seen = {number: seen for number, seen in self._seen.items() if number in live}
        old = self._find_old()
        found = self._look_at_threads(old)
        self._sweeps = [sweep for sweep in self._sweeps if sweep.loop.is_running()]
        if self._sweeps:  # A loop has not answered since the last turn.
            for sweep in self._sweeps:
                found |= self._find_blocking(sweep.loop)
        else:
            self._begin_sweeps(record for record in old if record.thread_id is None)
        self._note(found)

    def _find_old(self) -> list[Record]:
        born = time.time() - YOUNG_HEARTBEATS * self._settings.heartbeat
        records = list(self._registry.live.values())
        return [
            record
            for record in records
            if record.status is Status.RUNNING and (record.history[-1][1] < born or record.ignores_since)
        ]

    def _begin_sweeps(self, records: Iterable[Record]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[Record]] = defaultdict(list)
        for record in records:
            by_loop[record.loop].append(record)
        for loop, group in by_loop.items():
            sweep = Sweep(loop, group, self._receive)
            with contextlib.suppress(RuntimeError):  # The loop may be closed by now.
                sweep.begin()
                self._sweeps.append(sweep)

    def _receive(self, sweep: Sweep) -> None:
        """Pass the findings of a sweep from the loop's thread to the journal's."""

        def take_in() -> None:
            if sweep in self._sweeps:
                self._sweeps.remove(sweep)
            if sweep.thread_id is not None:
                self._threads[sweep.loop] = sweep.thread_id
            self._note(sweep.found)

        self._journal.submit(take_in)

    def _look_at_threads(self, records: list[Record]) -> Found:
        found: Found = {}
        for record in records:
            thread_id = record.thread_id
            if thread_id is None:
                continue
            place = find_place_of_thread(thread_id)
            if place is not None and record.thread_id == thread_id:
                found[record.number] = (record.attempt, place)
        return found

    def _find_blocking(self, loop: asyncio.AbstractEventLoop) -> Found:
        """Return the task that keeps its loop from answering, and the line where it does so."""
        thread_id = self._threads.get(loop) or getattr(loop, "_thread_id", None)
        if thread_id is None:
            return {}
        task = asyncio.current_task(loop)
        place = find_place_of_thread(thread_id)
        if task is None or place is None or asyncio.current_task(loop) is not task:
            return {}
        records = list(self._registry.live.values())
        return {record.number: (record.attempt, place) for record in records if record.asyncio_task is task}

    def _note(self, found: Found) -> None:
        """Compare the places with those of the last look, and write the changes."""
        now = time.time()
        for number, (attempt, place) in found.items():
            seen = self._seen.get(number)
            record = self._registry.live.get(number)
            ignores_since = record.ignores_since if record is not None else 0.0
            if seen is None or (seen.attempt, seen.place) != (attempt, place):
                self._seen[number] = Sighting(attempt, place, now, ignores_since)
            elif seen.ignores_since != ignores_since:
                self._seen[number] = Sighting(attempt, place, seen.since, ignores_since)
        self._write()

    def _write(self) -> None:
        """Write up to MAX_WRITES sightings; the rest follows in the next turn."""
        unwritten = [(number, seen) for number, seen in self._seen.items() if not seen.is_written]
        changed = [(number, seen) for number, seen in unwritten if self._has_row(number, seen)][:MAX_WRITES]
        if not changed:
            return
        alias = router.db_for_write(BackgroundTask)
        statements = statements_for(alias, self._state.id, self._settings.release)
        with statements.transaction() as cursor:
            statements.note_places(cursor, [(seen.as_json(), number, seen.attempt) for number, seen in changed])
        for _, seen in changed:
            seen.is_written = True

    def _has_row(self, number: int, seen: Sighting) -> bool:
        """Return whether the row of a task is RUNNING by now, so that an update finds it. The journal may be behind."""
        record = self._registry.live.get(number)
        return record is not None and record.written == (Status.RUNNING, seen.attempt)
