"""
Fill a database with the past of an invented shop, to explore the admin and for `benchmarks.pages`.

    python -m benchmarks.seed_rows --rows 1000000 [--settings MODULE] [--database ALIAS] [--beat]

The rows are as bgtasks would have left them: finished tasks of 14 days, processes that were deployed, drained and
killed, the course of each drain, rollups, a ledger that balances. Some thousand tasks are live. Their processes do not
exist: servers that use the database declare them dead within seconds, and the admin shows them as silent after a while.
With `--beat` this command writes beats for those that should seem alive.
"""

from __future__ import annotations

import argparse
import bisect
import functools
import itertools
import json
import math
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import django
from django.apps import apps
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks import invented
from benchmarks.invented import Failure, Function

BATCH = 5000  # Rows in a transaction.
DAY = 86400.0
SLOTS = (("web-1", 1200), ("web-1", 1201), ("web-2", 900), ("web-2", 901))  # Host and first pid of processes.
LEFT = "web-3"  # The host of a dead process and a silent one, each with live tasks.
UNNOTICED = 21.0  # Seconds from the death of a process until it is declared dead.
DEPLOYS = 10  # In the days of the past, the last of them three hours ago.
BEAT_EVERY = 2.0  # Seconds.

# Finished tasks by status, in 10,000, and those of a sample.
ENDS = {"SUCCESSFUL": 9740, "FAILED": 150, "CANCELLED": 60, "INTERRUPTED": 35, "LOST": 15}
ENDS_OF_SAMPLE = {"SUCCESSFUL": 3800, "FAILED": 3600, "CANCELLED": 800, "INTERRUPTED": 900, "LOST": 900}

_COLUMNS: dict[str, Any] = {
    **{"id": "", "name": "", "is_task_function": True, "status": "", "args": "[]", "kwargs": "{}", "on_lost": "fail"},
    **{"stuck_after": None, "attempt": 1, "max_attempts": 1, "priority": 0, "queue_name": "default", "options": None},
    **{"run_after": None, "created_at": None, "started_at": None, "finished_at": None, "process": None},
    **{"origin": None, "key": "", "unique_for": None, "rate_key": "", "live_key": None, "progress": None},
    **{"await_place": None, "error_type": "", "error_message": "", "traceback": "", "error_fingerprint": ""},
    **{"result": None, "checkpoint": None, "transitions": "[]", "cancel_requested_at": None, "fired_by": None},
    **{"fired_again_from": None, "release": "", "signature_fingerprint": ""},
}

Row = tuple[Any, ...]

_quote = functools.lru_cache(1000)(json.dumps)  # Most histories have the same reasons.


@dataclass
class Life:
    """A process, from its boot to its end. Moments are seconds since the epoch."""

    id: UUID
    host: str
    pid: int
    release: str
    started: float
    ended: float | None = None  # None: it is up.
    is_killed: bool = False
    fired: int = 0
    running: int = 0
    cut_short: Counter[str] = field(default_factory=Counter)  # Its tasks at its end, by name.

    def __post_init__(self) -> None:
        self.hex, self.text = self.id.hex, str(self.id)


@dataclass(frozen=True)
class Seeded:
    """The numbers of the written rows."""

    finished: int
    live: int
    living: list[UUID]  # The processes that should seem alive.


class Seeder:
    """
    Makes and writes the rows.

    Args:
        using: the database alias.
        seed: of the random numbers. The same seed makes the same past, relative to now.
    """

    def __init__(self, using: str, seed: int = 1) -> None:
        # Imports that need the settings are here and below, since an option chooses the settings.
        from bgtasks.journal.statements import statements_for
        from bgtasks.models.moments import stamp

        self._using = using
        self._stamp = stamp
        self._rng = random.Random(seed)
        self._now = time.time()
        self._moment = statements_for(using, UUID(int=0), "").moment
        self._functions = invented.name_after(_declared_names())
        self._failures = invented.make_failures(self._functions, self._rng)
        self._slots = [self._make_lives(number) for number in range(len(SLOTS))]
        self._starts = [[life.started for life in slot] for slot in self._slots]
        self._rollups = Rollups(self._now, self._slots)
        self._weights = list(itertools.accumulate(function.weight for function in self._functions))
        self._long = [function for function in self._functions if function.is_long]

    def seed(
        self,
        rows: int,
        live: int,
        advance: Callable[[int], None] = lambda count: None,
        sample: int = 0,
        failing: str = "",
    ) -> Seeded:
        """
        Write `rows` tasks, of which `live` are live.

        Args:
            advance: called after each batch, with the number of rows written since the last call.
            sample: the number of finished tasks in the sample: tasks of the last week, most of them of the last hours,
                with so many rare cases that 800 fill a page of any list. It depends on the seed, but not on `rows`.
            failing: the function with a third of the failures in the sample.
        """
        finished = rows - live
        made = itertools.chain(self._make_sample(sample, failing), self._make_finished(finished - sample))
        for batch in _batched(made, BATCH):
            write(self._using, batch)
            advance(len(batch))
        living = self._write_the_rest(finished, live)
        advance(live)
        return Seeded(finished, live, living)

    # Processes.

    def _make_lives(self, slot: int) -> list[Life]:
        """Return the successive processes of a slot, of which the last is up."""
        rng, (host, pid) = self._rng, SLOTS[slot]
        first, last = self._now - invented.DAYS * DAY, self._now - 3 * 3600
        deploys = [first + (last - first) * number / (DEPLOYS - 1) + slot * 21 for number in range(DEPLOYS)]
        killed = {number for number in range(DEPLOYS - 1) if (number * len(SLOTS) + slot) % 7 == 5}
        lives: list[Life] = []
        for number, (start, end) in enumerate(itertools.pairwise([*deploys, math.inf])):
            release = f"2026.{number + 1}"
            bounds = [start, start + (end - start) * rng.uniform(0.2, 0.8), end] if number in killed else [start, end]
            for begin, until in itertools.pairwise(bounds):
                is_killed = until not in deploys and until < math.inf
                began = begin + (0.5 if begin == start else UNNOTICED + 1)
                life = Life(self._id_at(began), host, pid + 3 * len(lives), release, began, None, is_killed)
                life.ended = until if until < math.inf else None
                lives.append(life)
        return lives

    def _life_at(self, moment: float) -> Life:
        """Return a random process that was alive at a moment."""
        slots = list(range(len(self._slots)))
        self._rng.shuffle(slots)
        for slot in slots:
            index = bisect.bisect_right(self._starts[slot], moment) - 1
            if index >= 0:
                life = self._slots[slot][index]
                if life.ended is None or moment < life.ended:
                    return life
        return self._slots[0][0]  # The moment precedes the first boot.

    # Finished tasks.

    def _make_finished(self, count: int) -> Iterator[Row]:
        """Yield rows roughly in the order of their ends. The number per hour follows the time of the day."""
        rng = self._rng
        weights = [1.1 + math.sin(number / 24 * 2 * math.pi) for number in range(24 * invented.DAYS)]
        share = count / sum(weights)
        began = self._now - DAY * invented.DAYS
        written, wanted = 0, 0.0
        for number, weight in enumerate(weights):
            wanted += share * weight
            ends = sorted(began + 3600 * (number + rng.random()) for _ in range(round(wanted) - written))
            written = round(wanted)
            for end in ends:
                status = rng.choices(list(ENDS), cum_weights=_CUMULATED)[0]
                yield self._finish(end, status, self._failures_at(end) if status == "FAILED" else [])

    def _failures_at(self, moment: float) -> list[Failure]:
        part = 1 - (self._now - moment) / (DAY * invented.DAYS)
        return [failure for failure in self._failures if failure.since <= part <= failure.until]

    def _make_sample(self, count: int, failing: str) -> Iterator[Row]:
        rng = self._rng
        going_on = [failure for failure in self._failures if failure.until == 1.0]
        of_one = [failure for failure in going_on if failure.function.name == failing] or going_on
        for end in sorted(self._now - 7 * DAY * rng.random() ** 4 for _ in range(count)):
            status = rng.choices(list(ENDS_OF_SAMPLE), ENDS_OF_SAMPLE.values())[0]
            yield self._finish(end, status, of_one if rng.random() < 1 / 3 else going_on)

    def _finish(self, end: float, status: str, failures: Sequence[Failure]) -> Row:
        """Return a task that ended at this moment; one that its process cut short ended with the process."""
        if status == "FAILED" and failures:
            return self._fail(end, failures)
        if status in ("INTERRUPTED", "LOST") and (row := self._cut_short(status, end)) is not None:
            return row
        function = self._rng.choices(self._functions, cum_weights=self._weights)[0]
        if status == "CANCELLED":
            return self._cancel(function, end)
        return self._succeed(function, end)

    def _succeed(self, function: Function, end: float) -> Row:
        attempts = 1
        if function.max_attempts > 1 and self._rng.random() < 0.03:
            attempts = self._rng.randint(2, min(function.max_attempts, 4))
        values = {"result": f'{{"done": {self._rng.randrange(1000)}}}' if self._rng.random() < 0.3 else None}
        return self._carry_out(function, end, "SUCCESSFUL", "returned", attempts, values)

    def _fail(self, end: float, failures: Sequence[Failure]) -> Row:
        failure: Failure = self._rng.choices(failures, [failure.weight for failure in failures])[0]
        message = failure.message.format(self._rng.randrange(10_000))
        error = f"{failure.type}: {message}" if message else failure.type
        values = {
            "error_type": failure.type,
            "error_message": message,
            "traceback": f"{failure.traceback}{error}\n",
            "error_fingerprint": failure.fingerprint,
        }
        why = f"raised {error.partition(chr(10))[0]}"
        return self._carry_out(failure.function, end, "FAILED", why, failure.function.max_attempts, values)

    def _carry_out(
        self, function: Function, end: float, status: str, why: str, attempts: int, values: dict[str, Any]
    ) -> Row:
        rng = self._rng
        life = self._life_at(end)
        took = min(function.take(rng), max(end - life.started, 0.001))
        started = end - took
        entries = [
            ("RUNNING", started, attempts, "fired" if attempts == 1 else "claimed"),
            (status, end, attempts, why),
        ]
        for attempt in range(attempts - 1, 0, -1):  # The earlier attempts, in reverse order.
            began = entries[0][1]
            failed = began - 2.0**attempt
            ran = failed - function.take(rng)
            again = f"again in {2.0**attempt:g} s, attempt {attempt + 1} of {function.max_attempts}"
            entries[:0] = [
                ("RUNNING", ran, attempt, "fired" if attempt == 1 else "claimed"),
                ("READY", failed, attempt, f"raised TimeoutError; {again}"),
            ]
        created, origin = entries[0][1], life
        if rng.random() < 0.15:  # The task found no free slot.
            first = entries[0]
            created = first[1] - rng.expovariate(2.0)
            origin = self._life_at(created)
            entries[:1] = [("READY", created, 0, "fired"), (*first[:3], "claimed")]
        waited = entries[1][1] - created if entries[0][0] == "READY" else 0.0
        row = self._make_row(function, entries, life, origin, **values)
        self._rollups.add(life, end, row, status, took, waited if attempts == 1 else None)
        return row

    def _cancel(self, function: Function, end: float) -> Row:
        """Return a task that was cancelled while it waited, or while it ran."""
        life = self._life_at(end)
        created = end - self._rng.expovariate(1 / 30)
        entries = [("READY", created, 0, "fired"), ("CANCELLED", end, 0, "cancelled on request")]
        if self._rng.random() < 0.5:
            entries = [("RUNNING", created, 1, "fired"), ("CANCELLED", end, 1, "cancelled on request")]
        row = self._make_row(function, entries, life, life)
        self._rollups.add(life, end, row, "CANCELLED")
        return row

    def _cut_short(self, status: str, end: float) -> Row | None:
        """Return a task that ran when its process ended, near the moment `end`; None if there is no such process."""
        ended = [life for slot in self._slots for life in slot if life.ended and life.is_killed == (status == "LOST")]
        life = min(ended, key=lambda life: abs((life.ended or 0) - end) + self._rng.random() * DAY, default=None)
        if life is None or life.ended is None:
            return None
        function = self._rng.choice(self._long)
        started = max(life.ended - function.take(self._rng), life.started)
        life.cut_short[function.name] += 1
        if status == "LOST":
            moment, why = life.ended + UNNOTICED + 0.5, f"its process {life.host}:{life.pid} died"
        else:
            moment, why = life.ended - 0.2, "cut short by the drain"
        entries = [("RUNNING", started, 1, "fired"), (status, moment, 1, why)]
        row = self._make_row(function, entries, life, life)
        if status == "LOST":
            self._rollups.add(self._life_at(moment), moment, row, status)
        else:
            self._rollups.add(life, moment, row, status, moment - started)
        return row

    def _make_row(
        self,
        function: Function,
        entries: Sequence[tuple[str, float, int, str]],
        life: Life | None,
        origin: Life,
        **values: Any,
    ) -> Row:
        """
        Return the columns of a task, and count it for its origin.

        Args:
            entries: the history, beginning with the firing, each as (status, at, attempt, why).
        """
        rng = self._rng
        origin.fired += 1
        number = rng.randrange(1, invented.MAX_USER)
        last_status, attempt = entries[-1][0], entries[-1][2]
        runs = [at for status, at, _, _ in entries if status == "RUNNING"]
        by = (life or origin).text
        history = ", ".join(
            f'{{"status": "{status}", "at": "{text}", "attempt": {attempt}, "by": "{by}", "why": {_quote(why)}}}'
            for status, text, attempt, why in ((each[0], self._stamp(each[1]), *each[2:]) for each in entries)
        )
        row = _COLUMNS | {
            "id": self._id_at(entries[0][1]).hex,
            "name": function.name,
            "status": last_status,
            "kwargs": f'{{"{function.parameter}": {number}}}',
            "stuck_after": function.stuck_after,
            "attempt": attempt,
            "max_attempts": function.max_attempts,
            "queue_name": function.queue,
            "created_at": self._moment(entries[0][1]),
            "started_at": self._moment(runs[-1]) if runs else None,
            "finished_at": self._moment(entries[-1][1]) if last_status not in ("READY", "RUNNING") else None,
            "process": life.hex if life is not None else None,
            "origin": origin.hex,
            "key": f"{function.parameter}:{number}" if function.is_keyed else "",
            "transitions": f"[{history}]",
            "fired_by": invented.fired_by(rng),
            "release": origin.release,
        }
        row.update(values)
        return tuple(row.values())

    def _id_at(self, moment: float) -> UUID:
        bits = self._rng.getrandbits(74)
        return UUID(int=int(moment * 1000) << 80 | 0x7 << 76 | bits >> 62 << 64 | 0x2 << 62 | bits & (1 << 62) - 1)

    # The present.

    def _write_the_rest(self, finished: int, live: int) -> list[UUID]:
        """Write live tasks, processes, drains, rollups and ledger; return the processes that should seem alive."""
        from django.db import transaction

        from bgtasks.conf import get_settings
        from bgtasks.models import BackgroundTask, Process
        from bgtasks.models.books import count_in_ledger

        self._now = time.time()
        dead_after = get_settings().dead_after
        living = [slot[-1] for slot in self._slots]
        began, other = self._now - 18_000, self._now - 9000
        dead = Life(self._id_at(began), LEFT, 411, "2026.9", began, self._now - UNNOTICED, is_killed=True)
        silent = Life(self._id_at(other), LEFT, 412, f"2026.{DEPLOYS}", other)
        rows = list(self._make_live(live, living, dead, silent))
        silence = dead_after + 1.0
        gone = finished // 3
        with transaction.atomic(using=self._using):
            for life in itertools.chain(*self._slots):
                row = self._process_row(life, 0.2)
                if life is living[1]:
                    row.blocked_since = row.loop_seen_at = _datetime(self._now - 12)
                    row.blocked_by = (
                        'shop.images.tasks.make_thumbnail\n  File "/srv/shop/shop/images/tasks.py", line 31'
                    )
                elif life is living[3]:
                    row.state = Process.State.DRAINING
                    row.drain_requested_at = _datetime(self._now - 40)
                    row.drain_acknowledged_at = _datetime(self._now - 39)
                row.save(using=self._using, force_insert=True)
            self._process_row(dead, 0.0).save(using=self._using, force_insert=True)
            self._process_row(silent, silence).save(using=self._using, force_insert=True)
            self._write_drains()
            self._rollups.write(self._using)
            count_in_ledger(BackgroundTask, self._using, fired_count=gone, gone_count=gone)
        for batch in _batched(iter(rows), BATCH):
            write(self._using, batch)
        return [life.id for life in living]

    def _make_live(self, count: int, living: list[Life], dead: Life, silent: Life) -> Iterator[Row]:
        # With names that no process knows, so that no process starts them.
        functions = [function for function in self._functions if function.name not in _declared_names()]
        weights = [function.weight * function.median**0.7 for function in functions]
        for number in range(count):
            function = self._rng.choices(functions, weights)[0]
            if number % 10 >= 6:
                yield self._wait(function, number, self._rng.choice(living))
                continue
            life = dead if number % 50 == 0 else silent if number % 50 == 1 else self._rng.choice(living)
            yield self._run(function, number, life)
            if life is dead:
                life.cut_short[function.name] += 1

    def _run(self, function: Function, number: int, life: Life) -> Row:
        rng = self._rng
        life.running += 1
        elapsed = min(function.take(rng) * rng.choice([0.3, 0.6, 0.8, 1.0, 3.0]), self._now - life.started - 1)
        if life.host == LEFT:
            elapsed += 30
        elif function.stuck_after is not None and number % 6 == 0:
            elapsed = function.stuck_after * rng.uniform(1.1, 3)
        started = self._now - elapsed
        values = self._key_of(function, number)
        if elapsed > 5:
            since = self._stamp(self._now - rng.random() * elapsed)
            file = f"/srv/shop/{function.name.rpartition('.')[0].replace('.', '/')}.py"
            place = {"file": file, "line": rng.randrange(10, 90), "function": function.name.rpartition(".")[2]}
            values["await_place"] = json.dumps({**place, "since": since})
        if function.is_long:
            total = rng.randrange(100, 5000)
            done, note = int(total * rng.random()), rng.choice(["", "reading", "writing"])
            progress = {"done": done, "total": total, "note": note, "at": self._stamp(self._now)}
            values["progress"] = json.dumps(progress)
        if number % 90 == 2:
            values["cancel_requested_at"] = self._moment(self._now - 2)
        entries = [("RUNNING", started, 1, "fired")]
        return self._make_row(function, entries, life, life, **values)

    def _wait(self, function: Function, number: int, origin: Life) -> Row:
        """Return a task that waits for a slot, for a later moment or for another attempt, some for too long."""
        rng = self._rng
        created = self._now - rng.expovariate(1 / 8)
        values = self._key_of(function, number)
        entries = [("READY", created, 0, "fired")]
        if number % 100 == 6:
            created = self._now - rng.uniform(600, 7200)
            entries = [("READY", created, 0, "fired")]
        elif number % 5 == 3:
            values["run_after"] = self._moment(self._now + rng.uniform(60, DAY))
        elif number % 7 == 0 and function.max_attempts > 1:
            created -= 5
            again = f"raised TimeoutError; again in 60 s, attempt 2 of {function.max_attempts}"
            entries = [("RUNNING", created, 1, "fired"), ("READY", self._now - 0.5, 1, again)]
            values |= {"run_after": self._moment(self._now + 60), "error_type": "TimeoutError"}
        return self._make_row(function, entries, None, origin, **values)

    def _key_of(self, function: Function, number: int) -> dict[str, Any]:
        """Return the columns of a key that no other live task has."""
        if not function.is_keyed:
            return {}
        key = f"{function.parameter}:{int(self._now)}-{number}"
        return {"key": key, "live_key": key}

    def _process_row(self, life: Life, silence: float) -> Any:
        from bgtasks.models import Process

        rng = self._rng
        state, stopped, seen = Process.State.ALIVE, None, self._now - silence
        if life.ended is not None:
            state = Process.State.DEAD if life.is_killed else Process.State.STOPPED
            stopped, seen = life.ended + UNNOTICED * life.is_killed, life.ended
        return Process(
            id=life.id,
            host=life.host,
            pid=life.pid,
            server="uvicorn",
            release=life.release,
            started_at=_datetime(life.started),
            stopped_at=_datetime(stopped) if stopped is not None else None,
            state=state,
            beat=int(seen - life.started) // 5,
            beat_at=_datetime(seen),
            loop_seen_at=_datetime(seen),
            loop_lag=rng.expovariate(300),
            memory=int(rng.uniform(90, 260) * 1e6),
            connections=rng.randint(1, 5),
            running=life.running,
            has_lifespan=True,
            fired_count=life.fired,
            died_with=dict(life.cut_short) if life.is_killed else {},
        )

    def _write_drains(self) -> None:
        from bgtasks.models import Drain

        drains = []
        for life in itertools.chain(*self._slots):
            if life.ended is None or life.is_killed:
                continue
            cut = life.cut_short.total()
            finished = self._rng.randrange(2, 60)
            length = 20.2 if cut else self._rng.uniform(0.4, 15)
            drains.append(
                Drain(
                    id=self._id_at(life.ended),
                    process=life.id,
                    asked_by="lifespan",
                    started_at=_datetime(life.ended - length),
                    seconds=length,
                    running_at_start=finished + cut,
                    finished_count=finished,
                    cancelled_count=cut,
                    left_count=0,
                    names=dict(life.cut_short),
                    cut_short_after=20.0 if cut else None,
                    course=self._make_course(finished, cut, length),
                )
            )
        Drain.objects.using(self._using).bulk_create(drains)

    def _make_course(self, finished: int, cut: int, length: float) -> list[list[float]]:
        until = 20.0 if cut else length
        ends = sorted(min(self._rng.expovariate(4 / until), until) for _ in range(finished))
        left = finished + cut
        course: list[list[float]] = [[0.0, left]]
        for end in ends:
            left -= 1
            course.append([round(end, 3), left])
        return [*course, [20.0, cut], [length, 0]] if cut else [*course, [length, 0]]


_CUMULATED = list(itertools.accumulate(ENDS.values()))


class Rollups:
    """The rollups that the processes would have written."""

    def __init__(self, now: float, slots: Sequence[Sequence[Life]]) -> None:
        from bgtasks.journal.tally import Counts
        from bgtasks.maintenance.rollup_writer import KEPT

        self._counts = Counts
        self._since = {int(resolution): now - seconds for resolution, seconds in KEPT.items()}
        # Also for periods without an ended task, since the lag of the loop is written for all.
        self._buckets: dict[tuple[int, int, UUID], dict[str, Any]] = {
            (resolution, number, life.id): {}
            for resolution, since in self._since.items()
            for life in itertools.chain(*slots)
            for number in _numbers(max(life.started, since), life.ended or now, resolution)
        }

    def add(
        self,
        life: Life,
        end: float,
        row: Row,
        status: str,
        took: float | None = None,
        waited: float | None = None,
    ) -> None:
        from bgtasks.models.histogram import bin_of

        number, name = int(row[0], 16), row[1]
        is_well = status in ("SUCCESSFUL", "CANCELLED")
        for resolution, since in self._since.items():
            if end < since:
                continue
            key = (resolution, int(end // resolution), life.id)
            counts = self._buckets.setdefault(key, {}).setdefault(name, None)
            if counts is None:
                counts = self._buckets[key][name] = self._counts()
            counts.statuses[status] = counts.statuses.get(status, 0) + 1
            counts.failed = counts.failed if is_well else max(counts.failed, number)
            if took is not None:
                which = bin_of(took)
                counts.took[which] = counts.took.get(which, 0) + 1
            if waited is not None:
                which = bin_of(waited)
                counts.waited[which] = counts.waited.get(which, 0) + 1

    def write(self, using: str) -> None:
        from bgtasks.models import Rollup

        rng = random.Random(1)
        rows = (
            Rollup(
                process=process,
                resolution=resolution,
                starts_at=_datetime(number * resolution),
                tasks={name: counts.as_json() for name, counts in tasks.items()},
                lag=rng.expovariate(200) if rng.random() < 0.97 else rng.uniform(0.1, 2.0),
            )
            for (resolution, number, process), tasks in self._buckets.items()
        )
        Rollup.objects.using(using).bulk_create(rows, batch_size=500)


def _numbers(begin: float, end: float, resolution: int) -> range:
    return range(int(begin // resolution), int(end // resolution) + 1)


def _datetime(seconds: float) -> Any:
    from bgtasks.journal.statements import to_datetime

    return to_datetime(seconds)


def _declared_names() -> list[str]:
    from bgtasks.definition import declared

    return sorted({task.name for task in declared.values()})


def _batched(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    rows = iter(rows)
    while batch := list(itertools.islice(rows, size)):
        yield batch


def write(using: str, rows: Sequence[Row]) -> None:
    """Write tasks in one transaction, as fast as the database takes them."""
    from django.db import connections, transaction

    from bgtasks.models import BackgroundTask

    connection = connections[using]
    table = connection.ops.quote_name(BackgroundTask._meta.db_table)
    names = ", ".join(connection.ops.quote_name(name) for name in _COLUMNS)
    with transaction.atomic(using=using), connection.cursor() as cursor:
        if connection.vendor == "postgresql" and hasattr(cursor, "copy"):  # Of psycopg 3.
            with cursor.copy(f"COPY {table} ({names}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
        else:
            marks = ", ".join(["%s"] * len(_COLUMNS))
            cursor.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", rows)


def beat(using: str, processes: Sequence[UUID]) -> None:
    """Write a beat for these processes, so that they seem alive for another while."""
    from django.db.models import F
    from django.utils import timezone

    from bgtasks.models import Process

    now = timezone.now()
    rows = Process.objects.using(using).filter(pk__in=processes)
    rows.update(beat=F("beat") + 1, beat_at=now)
    rows.filter(blocked_since=None).update(loop_seen_at=now)


def settle(using: str = "default") -> None:
    """Update the statistics of the database and vacuum it, so that its daemon does neither during a measure."""
    from django.db import connections

    connection = connections[using]
    tables = [model._meta.db_table for model in apps.get_app_config("bgtasks").get_models() if not model._meta.proxy]
    with connection.cursor() as cursor:
        for table in tables:
            if connection.vendor == "postgresql":
                cursor.execute(f"VACUUM ANALYZE {table}")
            else:
                cursor.execute(f"ANALYZE {'TABLE ' if connection.vendor == 'mysql' else ''}{table}")
                if connection.vendor == "mysql":
                    cursor.fetchall()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.seed_rows", description="Fill a database with the past of an invented shop."
    )
    parser.add_argument("--rows", type=int, default=1_000_000, help="tasks in all; by default a million")
    parser.add_argument(
        "--live", type=int, default=3000, help="live tasks among them, at most a quarter; by default 3000"
    )
    parser.add_argument("--seed", type=int, default=1, help="another seed makes another past")
    parser.add_argument(
        "--settings",
        default=os.environ.get("DJANGO_SETTINGS_MODULE", "bgtasks_project.settings"),
        help="by default DJANGO_SETTINGS_MODULE, or the demo's",
    )
    parser.add_argument("--database", metavar="ALIAS", help="by default that of the rows of bgtasks")
    parser.add_argument("--force", action="store_true", help="fill it even if it has tasks already")
    parser.add_argument("--beat", action="store_true", help="then let the processes seem alive, until Ctrl-C")
    options = parser.parse_args()
    if options.rows < 1 or options.live < 0:
        parser.error("--rows is at least 1, --live at least 0")
    os.environ["DJANGO_SETTINGS_MODULE"] = options.settings
    django.setup()
    using = _choose_database(parser, options)
    live = min(options.live, options.rows // 4)
    began = time.monotonic()
    with _make_progress() as progress:
        bar = progress.add_task("Writing", total=options.rows)
        seeded = Seeder(using, options.seed).seed(options.rows, live, lambda count: progress.advance(bar, count))
    settle(using)
    took = timedelta(seconds=round(time.monotonic() - began))
    print(f"{seeded.finished:,} finished and {seeded.live:,} live tasks are in {options.settings}, {using} ({took}).")
    if options.beat:
        _keep_beating(using, seeded.living)


def _choose_database(parser: argparse.ArgumentParser, options: argparse.Namespace) -> str:
    """Return the alias; exit with 2 for a database that must not or cannot be filled."""
    from django.db import DatabaseError, connections, router

    from bgtasks.models import BackgroundTask

    using = options.database or router.db_for_write(BackgroundTask)
    if using not in connections:
        parser.error(f"there is no database {using!r}. There are: {', '.join(connections)}")
    try:
        is_filled = BackgroundTask.objects.using(using).exists()
    except DatabaseError as error:
        parser.error(f"the database cannot be used: {str(error).strip()}. `manage.py migrate` makes the tables")
    if is_filled and not options.force:
        parser.error("there are tasks already. --force adds to them")
    return using


def _make_progress() -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, transient=True, disable=not sys.stdout.isatty())


def _keep_beating(using: str, living: Sequence[UUID]) -> None:
    print(f"{len(living)} of its processes beat. Ctrl-C ends it.", flush=True)
    try:
        while True:
            beat(using, living)
            time.sleep(BEAT_EVERY)
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
