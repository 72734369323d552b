"""The heartbeat: shows in the row of the process that it lives, and when its event loop last answered."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import socket
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.db.models import F
from django.utils import timezone

from ..conf import Settings
from ..models import Process
from ..models.moments import to_datetime
from ..process.connections import count_own_connections
from ..process.machine import name_server, read_memory
from ..process.registry import Registry
from ..process.state import Phase, ProcessState
from .statements import Disowned, Statements

FindLoop = Callable[[], asyncio.AbstractEventLoop | None]


class Heartbeat:
    """
    Beats on the journal's thread, which lives as long as the process does.

    The beat goes on while the event loop is blocked. So the loop is asked for a sign of life of its own.
    """

    def __init__(self, settings: Settings, registry: Registry, state: ProcessState, find_loop: FindLoop) -> None:
        self.next_at = 0.0  # On the monotonic clock.
        self._settings = settings
        self._registry = registry
        self._state = state
        self._find_loop = find_loop
        self._is_registered = False
        self._recorded_functions = 0  # The number of task functions in its row.
        self._loop_seen_at: float | None = None
        self._loop_lag: float | None = None
        self._worst_lag: float | None = None  # Since the last `take_worst_lag`.

    def take_worst_lag(self) -> float | None:
        """Return the longest lag since the last call, in seconds; None if none was measured."""
        lag, self._worst_lag = self._worst_lag, None
        return lag

    def hasten(self) -> None:
        """Beat in the next round of the journal."""
        if self.next_at != math.inf:
            self.next_at = 0.0

    def end(self) -> None:
        """Stop beating: the end of the process is in its row."""
        self.next_at = math.inf

    def beat(self, statements: Statements) -> None:
        """
        Count up the beat; the first one writes the row.

        Raises:
            Disowned: the row is gone or says that this process is dead.
        """
        self.next_at = time.monotonic() + self._settings.heartbeat
        known = len(self._registry.functions)
        with statements.transaction():
            if self._is_registered:
                rows = Process.objects.using(statements.alias).filter(pk=self._state.id, state__in=Process.UP)
                if not rows.update(beat=F("beat") + 1, **self._signs_of_life()):
                    raise Disowned
            else:
                self.register(statements, self._state.id)
        self._is_registered = True
        self._recorded_functions = known
        self._ask_loop()

    def register(self, statements: Statements, process_id: UUID) -> None:
        """Write the row of this process under an id, or update it, in the open transaction."""
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
        functions = self._registry.functions
        declared_since = {} if len(functions) == self._recorded_functions else {"functions": sorted(functions)}
        is_running = self._state.phase is Phase.RUNNING
        return {
            **declared_since,
            "beat_at": timezone.now(),
            "loop_seen_at": to_datetime(self._loop_seen_at),
            "loop_lag": self._loop_lag,
            "memory": read_memory(),
            "connections": count_own_connections(),
            "running": self._registry.count_running(),
            "has_lifespan": self._state.hears_its_end,
            "state": Process.State.ALIVE if is_running else Process.State.DRAINING,
        }

    def _ask_loop(self) -> None:
        """Ask the event loop for a sign of life; the next beat writes its answer."""
        loop = self._find_loop()
        if loop is None:
            return
        asked = time.monotonic()

        def answer() -> None:
            self._loop_seen_at = time.time()
            self._loop_lag = time.monotonic() - asked
            self._worst_lag = max(self._loop_lag, self._worst_lag or 0.0)

        with contextlib.suppress(RuntimeError):  # The loop may be closed by now.
            loop.call_soon_threadsafe(answer)
