"""The acts against servers and database, each at a moment that the seed decides."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from .databases import Database
from .fleet import Fleet, Server
from .traffic import Traffic, ask

DEAD_AFTER = 2.0  # Seconds, as `project.settings` has it.

STOPPED_IN_OUTAGE = 0.5  # The part of the outages in which a server gets SIGTERM: it spools its rows.


@dataclass(frozen=True)
class Act:
    """One act: its name, its moment (seconds from the start of its round), and the random numbers for its details."""

    at: float
    name: str
    random: Random


def plan(random: Random, kills: int, disturbances: int, database: Database) -> list[Act]:
    """Plan a round that ends about `kills` servers by force."""
    seconds = 2.5 + 0.9 * kills
    names = random.choices(list(KILLS), [weight for _, weight in KILLS.values()], k=kills)
    acts = [Act(random.uniform(0.5, seconds), name, Random(random.random())) for name in names]
    others = random.choices([*database.outages, *DISTURBANCES], k=disturbances)
    acts += [Act(random.uniform(0.0, seconds * 0.8), name, Random(random.random())) for name in others]
    return sorted(acts, key=lambda act: act.at)


class Actor:
    """Performs acts; long ones run in threads of their own."""

    def __init__(self, fleet: Fleet, database: Database, traffic: Traffic) -> None:
        self._fleet = fleet
        self._database = database
        self._traffic = traffic
        self._threads: list[threading.Thread] = []
        self._one_outage = threading.Lock()
        self.errors: list[str] = []
        self.outages: list[tuple[float, float]] = []  # Begin and end of each, in seconds since the epoch.

    def perform(self, act: Act) -> None:
        thread = threading.Thread(target=self._perform, args=(act,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _perform(self, act: Act) -> None:
        try:
            if act.name in self._database.outages:
                self._strike(act)
            else:
                function = KILLS[act.name][0] if act.name in KILLS else DISTURBANCES[act.name]
                function(self, act.random)
        except Exception as error:
            self.errors.append(f"{act.name}: {type(error).__name__}: {error}")

    def join(self) -> None:
        """Wait until all acts are over, and restore the database."""
        for thread in self._threads:
            thread.join(120)
        self._threads.clear()
        self._database.mend()

    def pick(self, random: Random) -> Server | None:
        alive = self._fleet.alive()
        return random.choice(alive) if alive else None

    # On the database.

    def _strike(self, act: Act) -> None:
        with self._one_outage:
            if act.name == "fill_disk":
                threading.Timer(0.05, self._announce_full_disk).start()
            began = time.time()
            seconds = act.random.uniform(0.2, 2.5 * DEAD_AFTER)
            if act.random.random() < STOPPED_IN_OUTAGE:
                threading.Timer(act.random.uniform(0, seconds), self.stop, (act.random,)).start()
            getattr(self._database, act.name)(seconds)
            self.outages.append((began, time.time()))

    def _announce_full_disk(self) -> None:
        for server in self._fleet.alive():
            ask(server, "/fill", timeout=2)

    # On servers.

    def kill(self, random: Random) -> None:
        """SIGKILL."""
        if server := self.pick(random):
            self._fleet.signal(server, signal.SIGKILL, "kill", ends=True)

    def kill_all(self, random: Random) -> None:
        for server in self._fleet.alive():
            self._fleet.signal(server, signal.SIGKILL, "kill", ends=True)

    def stop_impatiently(self, random: Random) -> None:
        """SIGTERM, and soon SIGKILL, perhaps during the drain."""
        if server := self.pick(random):
            self._fleet.signal(server, signal.SIGTERM, "terminate", ends=True)
            time.sleep(random.uniform(0.0, 1.0))
            self._fleet.signal(server, signal.SIGKILL, "kill", ends=True)

    def stop(self, random: Random) -> None:
        """SIGTERM, with enough time for the drain."""
        if server := self.pick(random):
            self._fleet.signal(server, signal.SIGTERM, "terminate", ends=True)

    def freeze(self, random: Random) -> None:
        """SIGSTOP for longer than DEAD_AFTER, then SIGCONT."""
        if server := self.pick(random):
            self._fleet.signal(server, signal.SIGSTOP, "freeze")
            time.sleep(DEAD_AFTER * random.uniform(1.2, 2.5))
            self._fleet.signal(server, signal.SIGCONT, "thaw")

    # In servers, by tasks.

    def _fire(self, random: Random, name: str, seconds: float) -> None:
        if server := self.pick(random):
            self._traffic.fire(server, random.choice(["afire", "fire"]), [(name, seconds)])

    def exit_at_once(self, random: Random) -> None:
        self._fire(random, random.choice(["exit_at_once", "exit_again"]), random.uniform(0.0, 0.3))

    def block_loop(self, random: Random) -> None:
        self._fire(random, "block_loop", DEAD_AFTER * random.uniform(0.5, 2.0))

    def hold_gil(self, random: Random) -> None:
        self._fire(random, "hold_gil", DEAD_AFTER * random.uniform(1.2, 2.0))

    def exhaust_memory(self, random: Random) -> None:
        self._fire(random, "exhaust_memory", random.uniform(0.0, 0.5))


# With the weight of each in the random choice.
KILLS: dict[str, tuple[Callable[[Actor, Random], None], int]] = {
    "kill": (Actor.kill, 12),
    "kill_all": (Actor.kill_all, 1),
    "stop_impatiently": (Actor.stop_impatiently, 4),
    "exit_at_once": (Actor.exit_at_once, 3),
}
DISTURBANCES: dict[str, Callable[[Actor, Random], None]] = {
    "stop": Actor.stop,
    "freeze": Actor.freeze,
    "block_loop": Actor.block_loop,
    "hold_gil": Actor.hold_gil,
    "exhaust_memory": Actor.exhaust_memory,
}
