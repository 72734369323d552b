"""The listeners of the journal, as it sees them. The AppConfig passes them in; the journal knows no runtime."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

from ..process.record import Record
from ..status import Status


class CommitListener(Protocol):
    """The runtime, which learns from the journal's thread what became of its records in the table."""

    def handed_over(self, records: list[Record]) -> None:
        """These records are about to be written as READY: from now on any process may start them."""

    def ready_again(self, records: list[Record]) -> None:
        """The rows of these records are committed as READY once more, and can be claimed."""

    def committed(self, records: list[Record]) -> None:
        """The first write of these records is committed: their callers wait for that in `afire`, or they have a key."""

    def conflicted(self, record: Record, holder: UUID) -> None:
        """Another task, `holder`, has the key of this record, which was not inserted."""

    def taken(self, record: Record, status: Status) -> None:
        """Other processes declared this one dead: the row has its verdict, `status`, or is READY for any process."""


class Peers(Protocol):
    """The other processes, which may wait for the end of tasks that are live here, and the other way round."""

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
        """Return how long it has nothing to do, at the moment `now` of the monotonic clock."""

    def run_once(self, now: float) -> None:
        """Do the work that is due now."""
