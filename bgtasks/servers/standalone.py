"""
A process with no HTTP: it claims tasks and carries them out until it is told to stop, or until nothing waits any more.

To the project's receivers it is a server like any other: it sends `lifespan_startup`, `lifespan_shutdown`, `drained`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..api import get_config
from ..lifespan import Lifespan
from ..log import log
from ..maintenance.claimer import Claimer
from ..signals import drained, lifespan_shutdown, lifespan_startup

if TYPE_CHECKING:
    from ..process.drain_report import DrainReport
    from ..runtime.runner import Runner

LONGEST_LOOK = 5.0  # Seconds for a look at the table, which may be away.
LONGEST_FAREWELL = 1.0  # Seconds for threads that tasks have started.

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Standalone:
    """
    Runs tasks on a loop of its own in the main thread; SIGTERM and SIGINT drain, a second SIGINT ends it at once.

    Args:
        queues: claim from these only. Empty: from all.
        max_running: tasks at once. None: the setting MAX_RUNNING.
        once: end when nothing is left that it may claim and its own tasks are over.
    """

    def __init__(self, queues: Sequence[str] = (), max_running: int | None = None, once: bool = False) -> None:
        self.runner = get_config().go_live()
        self.runner.state.queues = tuple(queues)
        if max_running is not None:
            self.runner.slots.resize(max_running)
        self._once = once
        self._stop_asked_at: float | None = None
        self._scope: dict[str, Any] = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}

    def run(self, say: Callable[[str], None] = lambda text: None) -> DrainReport:
        """
        Run until the end; return how the drain went.

        Args:
            say: is told when it is ready to claim, and when it is told to stop.
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
            os._exit(128 + number)  # Nothing is waited for or written: the tasks are lost with the process.

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
        """Drain beside the receivers of `lifespan_shutdown`, as when a server stops."""
        settings = self.runner.settings
        now = time.monotonic()
        asked_at = self._stop_asked_at or now
        ending = settings.cancel_grace + settings.flush_timeout
        deadline = max(asked_at + settings.drain_timeout, now) + ending
        draining = self._loop.create_task(self.runner.drain("run_tasks", deadline))
        await asyncio.sleep(0)  # Now it is this drain that the receivers find.
        await self._announce(lifespan_shutdown, stop_asked_at=asked_at)
        report = await draining
        await self._announce(drained)
        return report

    async def _announce(self, what: Any, **details: Any) -> None:
        for receiver, answer in await what.asend_robust(Lifespan, scope=self._scope, **details):
            if isinstance(answer, Exception):
                log(logging.ERROR, "At shutdown %r failed.", receiver, exc_info=answer)


async def wait_until_idle(runner: Runner, every: float) -> None:
    """Wait until nothing is left to do here, looking `every` so many seconds."""
    while True:
        if await is_idle(runner):
            return
        await asyncio.sleep(every)


async def is_idle(runner: Runner) -> bool:
    """Tell whether there is nothing left to do, as the journal's thread sees it: there no claim is half done."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[bool] = loop.create_future()
    claimer = next(service for service in runner.journal.services if isinstance(service, Claimer))

    def settle(is_idle: bool) -> None:
        if not answer.done():
            answer.set_result(is_idle)

    def look() -> None:
        is_busy = bool(runner.registry.live) or runner.journal.count_unwritten() > 0
        is_idle = not is_busy and (runner.state.is_held or not claimer.is_anything_ready())
        loop.call_soon_threadsafe(settle, is_idle)

    runner.journal.submit(look)
    try:
        async with asyncio.timeout(LONGEST_LOOK):
            return await answer
    except TimeoutError:
        return False


def _end_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Close the loop as `asyncio.run` does, but without waiting for threads that tasks have left behind."""
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
    asyncio.set_event_loop(None)
    loop.close()


def leave_threads(status: int) -> None:
    """End the process if a thread that a task has left behind would keep it: the interpreter waits for them."""
    deadline = time.monotonic() + LONGEST_FAREWELL
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join(max(deadline - time.monotonic(), 0))
            if thread.is_alive():
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
