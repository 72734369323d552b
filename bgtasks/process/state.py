"""The state of this process: its identity, its role, and the phase of its life."""

from __future__ import annotations

import threading
from enum import Enum
from uuid import UUID

from ..uuid7 import uuid7


class Phase(Enum):
    """The phase of a process's life. READY rows are claimed in the first one only."""

    RUNNING = "running"
    HELD = "held"  # A request in its row stopped the starts, and another can allow them again.
    DRAINING = "draining"  # It ends: running tasks finish, or are cut short at a deadline.
    STOPPED = "stopped"  # Its journal ends, and records nothing new.


class ProcessState:
    """
    The state of one process, shared by its runner, its journal and its services.

    Attributes:
        id: the id of its row. A process that others have declared dead goes on under a new one.
        is_server: whether it claims READY rows of other processes and prunes, as a server does. A command that ends
            soon leaves both to the servers.
        hears_its_end: whether the server announces its stop to the process, so that running tasks are drained.
        queues: the queues whose rows it claims. Empty: all queues.
        phase: read from any thread, changed by the methods below only.
    """

    def __init__(self, is_server: bool = False) -> None:
        self.id: UUID = uuid7()
        self.is_server = is_server
        self.hears_its_end = False
        self.queues: tuple[str, ...] = ()
        self.phase = Phase.RUNNING
        self._next_id: UUID | None = None
        self._lock = threading.Lock()  # Guards the changes of the phase: a drain may begin while a request holds it.

    @property
    def may_start(self) -> bool:
        """Whether tasks are started."""
        return self.phase is Phase.RUNNING

    @property
    def is_held(self) -> bool:
        return self.phase is Phase.HELD

    @property
    def is_ending(self) -> bool:
        """Whether the process drains or has drained. There is no way back."""
        return self.phase is Phase.DRAINING or self.phase is Phase.STOPPED

    @property
    def is_stopped(self) -> bool:
        return self.phase is Phase.STOPPED

    def hold(self) -> None:
        """Stop the starts until `release`. Without effect on a process that ends."""
        self._change(Phase.HELD, {Phase.RUNNING})

    def release(self) -> None:
        """Allow the starts again. Without effect on a process that ends."""
        self._change(Phase.RUNNING, {Phase.HELD})

    def drain(self) -> None:
        """Enter the drain, also from HELD."""
        self._change(Phase.DRAINING, {Phase.RUNNING, Phase.HELD})

    def stop(self) -> None:
        """End the recording, from any phase."""
        self._change(Phase.STOPPED, set(Phase))

    def find_next_id(self) -> UUID:
        """
        Return the id under which the process will go on, the same one until `adopt_next_id`.

        The transaction that registers it may be committed and its answer be lost: the next try must use the same id.
        """
        if self._next_id is None:
            self._next_id = uuid7()
        return self._next_id

    def adopt_next_id(self) -> None:
        """Go on under the next id, now that its row is committed."""
        self.id, self._next_id = self.find_next_id(), None

    def _change(self, phase: Phase, allowed_from: set[Phase]) -> None:
        with self._lock:
            if self.phase in allowed_from:
                self.phase = phase
