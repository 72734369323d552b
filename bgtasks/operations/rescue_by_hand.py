"""The rescue by hand, for the command and the admin: it serves when no process is left that rescues by itself."""

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
from ..maintenance.death_watch import DeathWatch
from ..maintenance.rescue import Look, declare_dead, rescue
from ..process.connections import own_connections
from ..transitions import Verdict
from ..uuid7 import uuid7
from .announce_ended import announce_ended


def longest_watch(settings: Settings) -> float:
    """Return the longest duration of `watch_for_deaths`, in seconds."""
    return settings.dead_after + settings.heartbeat


def watch_for_deaths(alias: str, settings: Settings, only: Collection[UUID] | None = None) -> Iterator[set[UUID]]:
    """
    Watch the beats of processes, and declare the silent ones dead; yield the ended processes after each look.

    Runs on the caller's thread, whose connection it sets up as the journal does, and sleeps between two looks. Ends
    when no process is left to watch, or after `longest_watch`. A process is declared dead when no beat of it has been
    observed for DEAD_AFTER, which is the rule that processes apply to each other.

    Args:
        only: watch these processes. None: all that are up or have live tasks.
    """
    statements_for(alias, uuid7(), settings.release).prepare()  # Under a new id: the watch is no process.
    death_watch = DeathWatch(settings.dead_after, settings.heartbeat)
    end = time.monotonic() + longest_watch(settings)
    while True:
        look = Look(alias, None)
        beats = {process: beat for process, beat in look.beats.items() if only is None or process in only}
        dead = death_watch.look(look.began, look.ended, beats)
        ended = {process for process in look.left_behind if only is None or process in only}
        yield ended | {process for process, beat in dead.items() if declare_dead(alias, process, beat)}
        if not beats or time.monotonic() >= end:
            return
        time.sleep(min(settings.heartbeat, settings.dead_after / 4, max(end - time.monotonic(), 0)))


def rescue_by_hand(alias: str, process: UUID, by: str, only: Collection[UUID] | None = None) -> list[Verdict]:
    """
    Give the tasks of an ended process their verdicts; return the given verdicts.

    Args:
        only: these tasks. None: all.
    """
    given = []
    for batch in rescue(alias, process, by, only):
        announce_ended(alias, batch)
        given += batch
    return given


@dataclass(frozen=True)
class VerdictRequest:
    """The request of a user to give tasks their verdicts once their process is dead."""

    by: str  # For the history of the tasks.
    tasks: Collection[UUID]
    on_given: Callable[[list[Verdict]], None]  # Called on the watching thread.


class BackgroundWatch:
    """
    Watches silent processes, each on its own thread, since a page cannot wait that long.

    If a process beats after all, the requests for its tasks are dropped. They are lost, too, when this process ends.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: dict[UUID, list[VerdictRequest]] = {}  # By watched process. Guarded by the lock.

    def is_requested(self, process: UUID | None, task: UUID) -> bool:
        """Return whether the process is being watched, and the verdict of the task is requested."""
        with self._lock:
            requests = self._requests.get(process, []) if process is not None else []
            return any(task in request.tasks for request in requests)

    def request(self, alias: str, settings: Settings, process: UUID, request: VerdictRequest) -> None:
        with self._lock:
            is_watched = process in self._requests
            self._requests.setdefault(process, []).append(request)
        if not is_watched:
            watch = (alias, settings, process)
            threading.Thread(target=self._watch, args=watch, name="bgtasks-watch", daemon=True).start()

    def _watch(self, alias: str, settings: Settings, process: UUID) -> None:
        try:
            with own_connections():
                is_over = any(process in ended for ended in watch_for_deaths(alias, settings, [process]))
                while requests := self._take(process):
                    for request in requests if is_over else ():
                        request.on_given(rescue_by_hand(alias, process, request.by, request.tasks))
        except Exception as error:  # noqa: BLE001, RUF100  # No caller sees an error of this thread.
            with self._lock:  # Without an error `_take` does this, and a new watch may have begun since.
                self._requests.pop(process, None)
            log(logging.WARNING, "Process %s could not be watched (%s): ask again.", process, error, exc_info=error)

    def _take(self, process: UUID) -> list[VerdictRequest]:
        """Return the requests so far; if there are none, end the watch."""
        with self._lock:
            requests = self._requests.pop(process, [])
            if requests:
                self._requests[process] = []  # Takes the requests of the meantime.
        return requests


background_watch = BackgroundWatch()
