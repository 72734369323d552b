"""
The process of `run_tasks`, without HTTP: it claims tasks and carries them out until a signal, or until it is idle.

It sends the signals of a server: `lifespan_startup`, `lifespan_shutdown` and `drained`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..api import get_config
from ..lifespan import Lifespan, announce_stop, make_scope
from ..maintenance.claimer import Claimer
from ..runtime.drain_deadline import find_deadline
from ..signals import lifespan_startup

if TYPE_CHECKING:
    from ..process.drain_report import DrainReport
    from ..runtime.runner import Runner

IDLE_TIMEOUT = 5.0  # Seconds for the answer of the journal's thread, which waits while the database is away.
LONGEST_FAREWELL = 1.0  # Seconds for threads that tasks have started.

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Standalone:
    """
    Runs tasks on a loop of its own in the main thread. SIGTERM and SIGINT drain it, a second SIGINT ends it at once.

    Args:
        queues: claims from these only. Empty: from all.
        max_running: tasks at once. None: the setting MAX_RUNNING.
        once: ends when there is no task left to claim and its own tasks are finished.
    """

    def __init__(self, queues: Sequence[str] = (), max_running: int | None = None, once: bool = False) -> None:
        self.runner = get_config().go_live()
        self.runner.state.hears_its_end = True  # By signals: `run` handles them.
        self.runner.state.queues = tuple(queues)
        if max_running is not None:
            self.runner.slots.resize(max_running)
        self._once = once
        self._stop_asked_at: float | None = None
        self._scope = make_scope()

    def run(self, say: Callable[[str], None] = lambda text: None) -> DrainReport:
        """
        Run until the end; return the report of the drain.

        Args:
            say: is called with "ready" when the process starts to claim, and with "stopping" when a signal stops it.
        """
        self._say = say
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        self._is_stopping = asyncio.Event()
        before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        try:
            return self._loop.run_until_complete(self._live())
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            _end_loop(self._loop)
            get_config().shut_down()

    def _handle(self, number: int, frame: Any) -> None:
        if self._stop_asked_at is None:
            self._stop_asked_at = time.monotonic()
            self._loop.call_soon_threadsafe(self._is_stopping.set)
        elif number == signal.SIGINT:
            os._exit(128 + number)  # Without waiting and writing: the tasks are lost with the process.

    async def _live(self) -> DrainReport:
        runner = self.runner
        runner.serve(self._loop)
        await lifespan_startup.asend(Lifespan, scope=self._scope)
        self._say("ready")
        stopping = self._loop.create_task(self._is_stopping.wait())
        idling = (
            self._loop.create_task(wait_until_idle(self.runner, self.runner.settings.poll_interval / 2))
            if self._once
            else None
        )
        await asyncio.wait({stopping, idling} if idling else {stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in (stopping, idling):
            if task is not None:
                task.cancel()
        if self._is_stopping.is_set():
            self._say("stopping")
        return await self._stop()

    async def _stop(self) -> DrainReport:
        """Announce the end as a server does; return the report of the drain, which is a receiver of it."""
        asked_at = self._stop_asked_at or time.monotonic()
        await announce_stop(self._scope, asked_at, "run_tasks")
        return await self.runner.drain("run_tasks", find_deadline(self.runner.settings, asked_at, time.monotonic()))


async def wait_until_idle(runner: Runner, every: float) -> None:
    """Wait until the process is idle; ask every `every` seconds."""
    while True:
        if await is_idle(runner):
            return
        await asyncio.sleep(every)


async def is_idle(runner: Runner) -> bool:
    """
    Return whether this process has no live task and nothing to claim. While the database is away it is not idle.

    The journal's thread answers: it carries out the claims, so none of them is half done at that moment.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[bool] = loop.create_future()
    claimer = next(service for service in runner.journal.services if isinstance(service, Claimer))

    def settle(is_idle: bool) -> None:
        if not answer.done():
            answer.set_result(is_idle)

    def find_answer() -> None:
        is_busy = bool(runner.registry.live) or runner.journal.count_unwritten() > 0
        is_idle = not is_busy and (runner.state.is_held or not claimer.is_anything_ready())
        loop.call_soon_threadsafe(settle, is_idle)

    runner.journal.submit(find_answer)
    try:
        async with asyncio.timeout(IDLE_TIMEOUT):
            return await answer
    except TimeoutError:
        return False


def _end_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Close the loop as `asyncio.run` does, but do not wait for threads that tasks have left behind."""
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
    asyncio.set_event_loop(None)
    loop.close()


def leave_threads(status: int) -> None:
    """End the process if tasks have left threads behind, for which the interpreter would wait without limit."""
    deadline = time.monotonic() + LONGEST_FAREWELL
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join(max(deadline - time.monotonic(), 0))
            if thread.is_alive():
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
