"""The harness: runs rounds of traffic and acts, waits until each has come to rest, and verifies its evidence."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from . import figures as figuring
from .acts import Actor, plan
from .databases import Database
from .evidence import Evidence, Fate, Final
from .figures import Figures
from .fleet import ROOT, Fleet, Server
from .marks import read_marks
from .policies import LATER, MOST_AT_ONCE, MOST_PER_SECOND, key_of
from .traffic import Traffic, ask, wait_until
from .verifier import Expectations, Problem, find_problems

KILLS_PER_ROUND = 10
DISTURBANCES_PER_ROUND = 3
LONGEST_REST = 90.0  # Seconds until all tasks must have ended; the spool is read once a minute.
LONGEST_SILENCE = 15.0  # Seconds for which a server may be silent: longer than any loop is blocked.
LEAST = 20  # Tasks that `afire` acknowledges before the first act of a round.
SAMPLING = 0.5  # Seconds between two samples of the finished rows.

EXPECTATIONS = Expectations(
    objects=frozenset({"work_as_object"}),
    may_fail={"fail": "ValueError"},
    starving=frozenset({"exhaust_memory"}),
    keys={"work_with_key": key_of},
    most_at_once={"work_in_turn": MOST_AT_ONCE},
    most_per_second={"work_by_rate": MOST_PER_SECOND},
    later={"work_later": LATER},
    delaying=frozenset({"freeze", "hold_gil", "block_loop", "exhaust_memory"}),
)
DEADLY = frozenset({"hold_gil", "exit_at_once", "exit_again", "exhaust_memory"})


class Harness:
    """One run on one database."""

    def __init__(self, folder: Path, database: Database, seed: int, size: int, figures: Figures) -> None:
        """
        Args:
            size: the number of servers that live at a time.
        """
        self.figures = figures
        self.round = 0
        self._folder = folder
        self._database = database
        self._seed = seed
        self._size = size
        self._finals: dict[str, Final] = {}
        self._ended: set[int] = set()

    @contextmanager
    def started(self) -> Iterator[None]:
        """Run the database and the servers for the time of a `with` block."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._database.stop)
            self._database.start()
            self._manage("migrate", "--verbosity", "0")
            (self._folder / "marks.txt").touch()
            self._fleet = Fleet(self._folder, {}, self._size)
            stack.callback(self._fleet.stop)
            self._fleet.wait_until_whole()
            self._traffic = stack.enter_context(Traffic(self._fleet, Random(f"{self._seed} traffic")))
            self._actor = Actor(self._fleet, self._database, self._traffic)
            yield

    def run_round(self, kills: int = KILLS_PER_ROUND, disturbances: int = DISTURBANCES_PER_ROUND) -> list[Problem]:
        """Run one round and return its problems."""
        self.round += 1
        acts = plan(Random(f"{self._seed} {self.round}"), kills, disturbances, self._database)
        is_over = threading.Event()
        sampler = threading.Thread(target=self._sample, args=(is_over,), daemon=True)
        sampler.start()
        self._begin_in_peace()
        began = time.monotonic()
        for act in acts:
            time.sleep(max(began + act.at - time.monotonic(), 0))
            self.figures.acts[act.name] += 1
            self._actor.perform(act)
        time.sleep(0.5)  # The last act has some traffic too.
        self._traffic.pause()
        self._actor.join()
        is_over.set()
        sampler.join(30)
        problems = self._find_restless()
        evidence = self._gather()
        problems += find_problems(evidence, EXPECTATIONS)
        problems += [Problem("the harness itself", "", error) for error in self._actor.errors]
        problems += self._audit()
        self._count(evidence, problems)
        evidence.save(self._folder)
        return problems

    def _begin_in_peace(self) -> None:
        """Wait for acknowledged tasks: without them, as on a loaded machine, a round would prove nothing."""
        before = len(self._traffic.fired)
        self._traffic.go()

        def are_enough() -> bool:
            fired = self._traffic.fired[before:]
            return sum(one.outcome == "acknowledged" and one.mode == "afire" for one in fired) >= LEAST

        wait_until(are_enough, 2 * LONGEST_SILENCE)

    def _sample(self, is_over: threading.Event) -> None:
        """Record when rows became final, while the round goes on."""
        from django.db import Error, connection

        from . import table

        while not is_over.wait(SAMPLING):
            try:
                self._finals |= table.read_finals(self._finals.keys())
            except Error:  # An act has made the database unusable.
                connection.close()
        connection.close()

    def _find_restless(self) -> list[Problem]:
        """Wait until no task is live and each server answers; return the exceptions as problems."""
        from django.db import connection

        from . import table

        connection.close()  # An act may have cut it.
        self._fleet.wait_until_whole()
        problems = self._end_what_hangs()
        spool = self._folder / "spool"
        if not wait_until(lambda: table.count_live() == 0 and not any(spool.glob("*")), LONGEST_REST):
            left = f"{table.count_live()} tasks are live, and {[path.name for path in spool.glob('*')]} are unread"
            problems.append(Problem("no rest", "", f"after {LONGEST_REST} s {left}"))
        for server in self._fleet.alive():
            if not wait_until(partial(_rests, server), 20):
                answer = ask(server, "/state")
                problems.append(Problem("no rest", "", f"server {server.pid} says {answer}, and not {_AT_REST}"))
        self._fleet.wait_until_whole()
        return problems

    def _end_what_hangs(self) -> list[Problem]:
        """
        Kill servers whose loop no longer answers, as an administrator would. Only a lack of memory excuses them.

        Without memory a thread cannot begin, and `threading.Thread.start` waits for it for ever. asgiref calls that on
        the loop, for the first request of each kind.
        """
        problems = []
        for server in self._fleet.alive():
            if wait_until(partial(_answers, server), LONGEST_SILENCE):
                continue
            marks = read_marks(self._folder / "marks.txt")
            if any(mark.pid == server.pid and mark.kind in EXPECTATIONS.starving for mark in marks):
                self.figures.hung += 1
                self._fleet.signal(server, signal.SIGKILL, "kill what hangs", ends=True)
            else:
                problems.append(Problem("hangs", "", f"server {server.pid} has not answered for {LONGEST_SILENCE} s"))
        self._fleet.wait_until_whole()
        return problems

    def _gather(self) -> Evidence:
        from . import table

        self._finals |= table.read_finals(self._finals.keys())
        return Evidence(
            fired=list(self._traffic.fired),
            cancelled=set(self._traffic.cancelled),
            marks=read_marks(self._folder / "marks.txt"),
            rows=table.read_rows(),
            processes=table.read_processes(),
            fates={
                server.pid: Fate(server.pid, server.ended_at, server.code, list(server.acts))
                for server in self._fleet.servers.values()
            },
            finals=dict(self._finals),
            outages=list(self._actor.outages),
        )

    def _audit(self) -> list[Problem]:
        """Run bgtasks' own audit."""
        found = self._manage("audit_tasks", "--format", "json", "--wait", "15", check=False)
        if found.returncode == 0:
            return []
        try:
            problems = json.loads(found.stdout)["problems"]
        except ValueError:
            return [Problem("audit_tasks failed", "", f"{found.returncode}: {found.stderr[-1000:]}")]
        return [
            Problem("audit_tasks", " ".join(found["tasks"]), f"{found['count']} {found['what']}") for found in problems
        ]

    def _manage(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "manage.py", *command], cwd=ROOT, capture_output=True, text=True, check=check
        )

    def _count(self, evidence: Evidence, problems: list[Problem]) -> None:
        figures = self.figures
        figures.rounds = self.round
        for fate in evidence.fates.values():
            if fate.ended_at is not None and fate.pid not in self._ended:
                self._ended.add(fate.pid)
                figures.endings[figuring.name_ending(fate)] += 1
                figures.kills += fate.was_killed
        figures.tasks = len(evidence.rows)
        figures.acknowledged = sum(
            fired.outcome == "acknowledged" and fired.mode in ("afire", "commit") for fired in evidence.fired
        )
        figures.forgotten = figuring.count_forgotten(evidence)
        ages = figuring.find_forgotten_ages(evidence)
        figures.forgotten_in_peace = len(ages)
        figures.forgotten_oldest = round(max(ages), 3) if ages else None
        figures.late = figuring.count_late(evidence)
        figures.false_deaths = len(figuring.find_false_deaths(evidence, DEADLY))
        figures.rescues = figuring.find_rescues(evidence)
        figures.statuses.clear()
        figures.statuses.update(row.status for row in evidence.rows.values())
        figures.problems.update(problem.promise for problem in problems)
        figures.begun_anew = sum(
            "goes on as" in line
            for path in self._folder.glob("server-*.log")
            for line in path.read_text(errors="replace").splitlines()
        )


_AT_REST: dict[str, Any] = {"pending": 0, "unwritten": 0}


def _answers(server: Server) -> bool:
    return server.ended_at is not None or ask(server, "/state") is not None


def _rests(server: Server) -> bool:
    """Report whether a server is idle or has ended: one that was declared dead may end itself."""
    return server.ended_at is not None or ask(server, "/state") == _AT_REST


def prepare(folder: Path, database: Database) -> None:
    """Set up Django, with the database and the folder in the environment of this process and its children."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.chaos.project.settings"
    os.environ["CHAOS_FOLDER"] = str(folder)
    os.environ["CHAOS_DATABASE"] = json.dumps(database.settings())
    import django

    django.setup()
