"""The protocols of the parts that the AppConfig attaches to the journal. The journal knows no runtime."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

from ..process.record import Record
from ..status import Status


class CommitListener(Protocol):
    """The runtime, as a listener to the writes of its records. It is called on the journal's thread."""

    def handed_over(self, records: list[Record]) -> None:
        """Leave records that are about to be written as READY to any process."""

    def ready_again(self, records: list[Record]) -> None:
        """Expect rows that are committed as READY once more, so that they can be claimed."""

    def committed(self, records: list[Record]) -> None:
        """Start records that waited for the commit of their first write: those of `afire`, and those with a key."""

    def conflicted(self, record: Record, holder: UUID) -> None:
        """Refuse a record that was not inserted, since another task, `holder`, has its key."""

    def taken(self, record: Record, status: Status) -> None:
        """
        Give up a record that belongs to this process no more: other processes declared it dead.

        Args:
            status: the verdict in the row; READY if any process may start it.
        """


class Peers(Protocol):
    """The other processes: they may wait for the end of tasks that are live here, and this process for tasks there."""

    def has_askers(self) -> bool:
        """Return whether other processes wait for the end of any task."""

    def is_asked_about(self, number: int) -> bool:
        """Return whether other processes wait for the end of this task."""

    def answer(self, numbers: list[int]) -> None:
        """Notify the processes that asked about these tasks: they have ended here, and their rows say so."""

    def begin_anew(self) -> None:
        """Go on under the new id of this process."""

    def awaited(self, record: Record) -> None:
        """Note that a caller in this process awaits a task that is not live here. From any thread."""

    async def close(self) -> None:
        """End after the last messages, on the event loop."""

    def stop(self) -> None:
        """End at once, from any thread."""


class Service(Protocol):
    """A service that gets its turn on the journal's thread."""

    def seconds_until_due(self, now: float) -> float:
        """Return the seconds until it has work, at the moment `now` of the monotonic clock."""

    def run_once(self, now: float) -> None:
        """Do the work that is due now."""
