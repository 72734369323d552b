"""The heartbeat: says in the process's row that it lives, and when its event loop last answered."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import time
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db.models import F
from django.utils import timezone

from ..conf import Settings
from ..models import Process
from ..process.connections import count_own_connections
from ..process.machine import name_server, read_memory
from ..process.registry import Registry
from ..status import Status
from .statements import Disowned, Statements, to_datetime

if TYPE_CHECKING:
    from .journal import Journal  # For the type only: the journal imports this module.


class Heartbeat:
    """
    Beats on the journal's thread, which lives as long as the process does.

    The thread also beats while the loop is blocked, so the loop is asked for a sign of life of its own.
    """

    def __init__(self, journal: Journal, settings: Settings, registry: Registry) -> None:
        self.next_at = 0.0  # On the monotonic clock.
        self._journal = journal
        self._settings = settings
        self._registry = registry
        self._is_registered = False
        self._told_functions = 0  # How many its row says that this process knows.
        self._loop_seen_at: float | None = None
        self._loop_lag: float | None = None
        self._worst_lag: float | None = None  # Since it was last taken.

    def take_worst_lag(self) -> float | None:
        """Return the longest lag, in seconds, that was seen since the last time; None if none was."""
        lag, self._worst_lag = self._worst_lag, None
        return lag

    def hasten(self) -> None:
        """Beat at the next occasion."""
        if self.next_at != math.inf:
            self.next_at = 0.0

    def end(self) -> None:
        """Beat no more: the end of the process is in its row."""
        self.next_at = math.inf

    def beat(self, statements: Statements) -> None:
        """
        Count up the beat; the first one writes the row.

        Raises:
            Disowned: the row is gone or says that this process is dead.
        """
        self.next_at = time.monotonic() + self._settings.heartbeat
        known = len(self._registry.functions)
        if self._is_registered:
            with statements.transaction():
                rows = Process.objects.using(statements.alias).filter(pk=self._journal.process_id, state__in=Process.UP)
                if not rows.update(beat=F("beat") + 1, **self._signs_of_life()):
                    raise Disowned
        else:
            with statements.transaction():
                self.register(statements, self._journal.process_id)
            self._is_registered = True
        self._told_functions = known
        self._ask_loop()

    def register(self, statements: Statements, process_id: UUID) -> None:
        """Write the row of this process under an id, if it is not there, in the open transaction."""
        values = self._signs_of_life()
        birth = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "server": name_server(),
            "release": self._settings.release,
            "started_at": values["beat_at"],
            "functions": sorted(self._registry.functions),
        }
        rows = Process.objects.using(statements.alias)
        rows.update_or_create(pk=process_id, defaults=values, create_defaults={**values, **birth})

    def _signs_of_life(self) -> dict[str, Any]:
        journal = self._journal
        is_draining = journal.is_draining or journal.is_held
        functions = self._registry.functions
        declared_since = {} if len(functions) == self._told_functions else {"functions": sorted(functions)}
        return {
            **declared_since,
            "beat_at": timezone.now(),
            "loop_seen_at": to_datetime(self._loop_seen_at),
            "loop_lag": self._loop_lag,
            "memory": read_memory(),
            "connections": count_own_connections(),
            "running": sum(record.status is Status.RUNNING for record in list(self._registry.live.values())),
            "has_lifespan": journal.has_lifespan,
            "state": Process.State.DRAINING if is_draining else Process.State.ALIVE,
        }

    def _ask_loop(self) -> None:
        """Ask the event loop for a sign of life; the next beat tells of it."""
        loop = self._journal.find_loop()
        if loop is None:
            return
        asked = time.monotonic()

        def answer() -> None:
            self._loop_seen_at = time.time()
            self._loop_lag = time.monotonic() - asked
            self._worst_lag = max(self._loop_lag, self._worst_lag or 0.0)

        with contextlib.suppress(RuntimeError):  # The loop may be closed by now.
            loop.call_soon_threadsafe(answer)
