"""The rescue by hand, for when no process is left that would do it by itself: the command and the admin ask for it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from uuid import UUID

from ..conf import Settings
from ..journal.statements import statements_for
from ..log import log
from ..maintenance.observation import Observation
from ..maintenance.rescue import Look, declare_dead, rescue
from ..process.connections import own_connections
from ..transitions import Verdict
from ..uuid7 import uuid7
from .announce_ended import announce_ended


def longest_watch(settings: Settings) -> float:
    """Return for how many seconds `watch_for_deaths` watches at most."""
    return settings.dead_after + settings.heartbeat


def watch_for_deaths(alias: str, settings: Settings, only: Collection[UUID] | None = None) -> Iterator[set[UUID]]:
    """
    Watch the beats of processes, and declare dead those that stay silent; yield, after each look, which have ended.

    It is on the caller's thread, waits between two looks, and sets up that thread's connection as the journal does.
    It ends once nobody is left to be watched, or after `longest_watch`. Who is declared dead has been seen without a
    beat for DEAD_AFTER, as each process sees it of the others.

    Args:
        only: watch these processes. None: all that are up, or have live tasks.
    """
    statements_for(alias, uuid7(), settings.release).prepare()  # It has no row, and judges nobody by another clock.
    observation = Observation(settings.dead_after, settings.heartbeat)
    end = time.monotonic() + longest_watch(settings)
    while True:
        look = Look(alias, None)
        beats = {process: beat for process, beat in look.beats.items() if only is None or process in only}
        dead = observation.look(look.began, look.ended, beats)
        ended = {process for process in look.left_behind if only is None or process in only}
        yield ended | {process for process, beat in dead.items() if declare_dead(alias, process, beat)}
        if not beats or time.monotonic() >= end:
            return
        time.sleep(min(settings.heartbeat, settings.dead_after / 4, max(end - time.monotonic(), 0)))


def rescue_by_hand(alias: str, process: UUID, by: str, only: Collection[UUID] | None = None) -> list[Verdict]:
    """
    Give the tasks of an ended process their verdicts; return those that were given.

    Args:
        only: these tasks. None: all.
    """
    given = []
    for batch in rescue(alias, process, by, only):
        announce_ended(alias, batch)
        given += batch
    return given


@dataclass(frozen=True)
class Wish:
    """Somebody wants the verdicts of tasks."""

    by: str  # For their history.
    tasks: Collection[UUID]
    tell: Callable[[list[Verdict]], None]  # Is called on the watching thread.


class BackgroundWatch:
    """
    Watches silent processes, each on a thread of its own, since whoever asks cannot wait for so long.

    A process that beats is left alone, and the wishes of its tasks are dropped. So are they when this process ends.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wishes: dict[UUID, list[Wish]] = {}  # Of the processes that are being watched. Guarded by the lock.

    def is_wished(self, process: UUID | None, task: UUID) -> bool:
        """Tell whether a task gets its verdict if its process, which is being watched, turns out to be dead."""
        with self._lock:
            wishes = self._wishes.get(process, []) if process is not None else []
            return any(task in wish.tasks for wish in wishes)

    def wish(self, alias: str, settings: Settings, process: UUID, wish: Wish) -> None:
        with self._lock:
            is_watched = process in self._wishes
            self._wishes.setdefault(process, []).append(wish)
        if not is_watched:
            watch = (alias, settings, process)
            threading.Thread(target=self._watch, args=watch, name="bgtasks-watch", daemon=True).start()

    def _watch(self, alias: str, settings: Settings, process: UUID) -> None:
        try:
            with own_connections():
                is_over = any(process in ended for ended in watch_for_deaths(alias, settings, [process]))
                while wishes := self._take(process):
                    for wish in wishes if is_over else ():
                        wish.tell(rescue_by_hand(alias, process, wish.by, wish.tasks))
        except Exception as error:  # noqa: BLE001, RUF100  # Nobody waits for this thread.
            with self._lock:  # Else `_take` has done so, and others may wish anew already.
                self._wishes.pop(process, None)
            log(logging.WARNING, "Process %s could not be watched (%s): ask again.", process, error, exc_info=error)

    def _take(self, process: UUID) -> list[Wish]:
        """Return the wishes so far; once there are none, the process is not watched any more."""
        with self._lock:
            wishes = self._wishes.pop(process, [])
            if wishes:
                self._wishes[process] = []  # What is wished meanwhile is taken next.
        return wishes


background_watch = BackgroundWatch()
