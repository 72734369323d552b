"""`TaskHandle`: the return value of `fire`."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Generator
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

from django.urls import reverse

from ..exceptions import KeyConflict, RolledBack, TaskNotFound
from ..process.record import Record
from ..status import Status

R_co = TypeVar("R_co", covariant=True)

REFUSALS = {RolledBack: "rolled back", KeyConflict: "key taken", TaskNotFound: "deleted"}


class HandleOwner(Protocol):
    """The runner, as handles see it."""

    def watch(self, record: Record) -> None:
        """Find out when an awaited task ends, in any process."""

    def cancel(self, record: Record) -> bool:
        """Cancel a task; return False if it was finished already."""

    def check_may_block(self) -> None:
        """Raise RuntimeError in a thread that the task may need."""


class TaskHandle(Generic[R_co]):
    """
    A fired task, as the code sees it that has fired it.

    `await handle` waits for the end of the task and returns its result. If the waiting code is cancelled, as a view is
    when its client disconnects, the task goes on.
    """

    __slots__ = ("_owner", "_record")

    def __init__(self, owner: HandleOwner, record: Record) -> None:
        self._owner = owner
        self._record = record

    @property
    def id(self) -> UUID:
        """The id of its row (UUIDv7)."""
        return self._record.id

    @property
    def name(self) -> str:
        return self._record.name

    @property
    def status(self) -> Status:
        """
        The status as this process knows it, without asking the database.

        Raises:
            RolledBack: the task was fired in a transaction that was rolled back, and never existed.
            KeyConflict: another task has its key, and it never existed.
            TaskNotFound: its row was deleted while a caller in this process awaited it.
        """
        if self._record.refusal is not None:
            raise self._record.refusal
        return self._record.status

    def __await__(self) -> Generator[Any, None, R_co]:
        return self.wait().__await__()

    async def wait(self, timeout: float | None = None) -> R_co:
        """
        Wait for the end of the task and return its result.

        Its row is written within milliseconds after the end; during a database outage it is written later.

        Args:
            timeout: seconds. None: without limit.

        Raises:
            TimeoutError: the task has not ended yet. It goes on.
            TaskFailed, TaskCancelled, TaskInterrupted, TaskLost: the task ended without a result.
            RolledBack: the task was fired in a transaction that was rolled back, and never existed.
            KeyConflict: another task has its key, and it never existed.
            TaskNotFound: the row was deleted before the task ended, and the task did not run in this process.
        """
        if self._record.is_live:
            await self._wait_for_end(timeout)
        result: R_co = self._record.outcome()
        return result

    async def _wait_for_end(self, timeout: float | None) -> None:
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()

        def finish() -> None:
            if not over.done():
                over.set_result(None)

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # The loop may be closed by now.
                loop.call_soon_threadsafe(finish)

        self._record.when_finished(wake)
        try:
            self._owner.watch(self._record)
            async with asyncio.timeout(timeout):
                await over
        finally:
            self._record.forget_waiter(wake)

    def result(self, timeout: float | None = None) -> R_co:
        """
        Block this thread until the end of the task, and return its result. For sync code; async code awaits the handle.

        Args:
            timeout: seconds. None: without limit.

        Raises:
            RuntimeError: called in a thread that the task may need: that of an event loop, a lane, or the journal.
            TimeoutError: the task has not ended yet. It goes on.
            TaskFailed, TaskCancelled, TaskInterrupted, TaskLost, RolledBack, KeyConflict, TaskNotFound: as `wait`.
        """
        self._owner.check_may_block()
        if self._record.is_live:
            over = threading.Event()
            wake = over.set
            self._record.when_finished(wake)
            try:
                self._owner.watch(self._record)
                if not over.wait(timeout):
                    raise TimeoutError(f"Task {self.name} ({self.id}) is not over after {timeout} s. It goes on.")
            finally:
                self._record.forget_waiter(wake)
        result: R_co = self._record.outcome()
        return result

    @property
    def conflict(self) -> UUID | None:
        """The id of the task with its key, if it was not fired for that reason. None: it was fired, or may yet be."""
        refusal = self._record.refusal
        return refusal.id if isinstance(refusal, KeyConflict) else None

    def cancel(self) -> bool:
        """
        Cancel the task: at once if it has not started, by a `CancelledError` at its next await if it runs.

        Returns:
            False if it had ended already. After True the task may still end otherwise, for example with a result.
        """
        return self._owner.cancel(self._record)

    def get_admin_url(self) -> str:
        """
        Return the path of the task's page in Django's admin.

        Raises:
            NoReverseMatch: the project has no admin.
        """
        return reverse("admin:bgtasks_backgroundtask_change", args=[self.id])

    def __repr__(self) -> str:
        refusal = self._record.refusal
        status: str = self._record.status
        if refusal is not None:
            status = REFUSALS[type(refusal)]
        return f"<TaskHandle {self.name} {self.id} {status}>"
