"""Finds tasks that may crash their process: those running at its death, against how often they run at all."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from django.db.models import Count

from ..models import BackgroundTask, Process
from ..uuid7 import first_id_of

MAX_DEATHS = 1000  # The last ones.
MAX_SUSPECTS = 50


@dataclass(frozen=True)
class Suspect:
    """A task function that ran when processes died."""

    name: str
    deaths: int  # Processes that died while tasks of it ran.
    running: int  # Its tasks that ran in these processes then.
    runs: int  # All its tasks since the first of these processes started.
    expected: float  # The value of `running`, if deaths did not depend on the tasks.

    @property
    def surprise(self) -> float:
        """
        Return how far `running` is above `expected`: the Poisson deviance, 0 where it is below.

        Unlike a ratio it stays small for a rare task that ran at a single death (McCullagh and Nelder, Generalized
        Linear Models, 1989, section 2.3).

        >>> [round(Suspect("a", 1, running, 9, 2.0).surprise, 1) for running in (1, 2, 4, 8)]
        [0.0, 0.0, 1.5, 10.2]
        """
        if self.running <= self.expected:
            return 0.0
        return 2 * (self.running * math.log(self.running / self.expected) - (self.running - self.expected))


def find_suspects(using: str) -> tuple[int, list[Suspect]]:
    """Return how many processes died with tasks in them, and up to MAX_SUSPECTS names, the most suspect first."""
    dead = Process.objects.using(using).filter(state=Process.State.DEAD).exclude(died_with={})
    rows = list(dead.order_by("-id").values("id", "started_at", "died_with")[:MAX_DEATHS])
    if not rows:
        return 0, []
    deaths: Counter[str] = Counter()
    running: Counter[str] = Counter()
    for row in rows:
        deaths.update(row["died_with"].keys())
        running.update(row["died_with"])
    first = min(row["started_at"] for row in rows)
    since = BackgroundTask.objects.using(using).filter(id__gte=first_id_of(first))
    counted = since.order_by().values_list("name").annotate(number=Count("id"))
    runs = Counter(running)  # Rows may be pruned, but these tasks have run.
    for name, number in counted:
        runs[name] = max(runs[name], number)
    total = runs.total()
    suspects = [
        Suspect(name, deaths[name], number, runs[name], running.total() * runs[name] / total)
        for name, number in running.items()
    ]
    suspects.sort(key=lambda suspect: (-suspect.surprise, -suspect.deaths, suspect.name))
    return len(rows), suspects[:MAX_SUSPECTS]
