"""Live mode: the whole runtime within a test."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from asgiref.sync import sync_to_async

from ..api import get_config
from ..runtime.drain_deadline import find_deadline
from ..servers.standalone import wait_until_idle
from .database import as_sync_code, check_database, check_transaction

LOOK_AGAIN = 0.02  # Seconds between two checks whether tasks are left.


class live:  # noqa: N801, RUF100  # Its users call it like a function.
    """
    Run tasks in the block with the whole runtime: `with live():`, or `async with live():`.

    With `async with` tasks run on the test's own loop, with `with` on a separate one. At the end of the block they have
    time to finish, then they are cancelled. After an error in the test they are cancelled at once. No thread and no
    connection is left.

    Args:
        timeout: seconds in which tasks may finish at the end.

    Raises:
        RuntimeError: the runtime's own connections could not see the data of this test, which has a transaction or an
            SQLite database in memory; or tasks run in this process already.
    """

    def __init__(self, *, timeout: float = 10.0) -> None:
        self._timeout = timeout

    def __enter__(self) -> None:
        if asyncio._get_running_loop() is not None and not os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE"):
            raise RuntimeError("In async code live mode is `async with live():`.")
        check_database()
        self._start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        # In another thread, since sync tests may have a running loop too: that of a browser's driver.
        with ThreadPoolExecutor(1) as executor:
            executor.submit(asyncio.run, self._stop(is_well=kind is None)).result()

    async def __aenter__(self) -> None:
        with as_sync_code():  # A fixture of pytest-django may have begun a transaction in this thread.
            check_transaction()
        await sync_to_async(check_database)()
        self._start()
        self._runner.loops.register_home(asyncio.get_running_loop())

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        await self._stop(is_well=kind is None)

    def _start(self) -> None:
        config = get_config()
        runner = config.find_runner()
        if runner is not None and not runner.state.is_stopped:
            raise RuntimeError("Tasks run in this process already: in live mode, or since a Lifespan has started.")
        self._runner = config.go_live()
        self._runner.state.is_server = True
        self._runner.state.hears_its_end = True  # It is drained below.
        self._runner.journal.start()

    async def _stop(self, is_well: bool) -> None:
        settings = self._runner.settings
        stop_by = time.monotonic() + (self._timeout if is_well else 0)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(stop_by - time.monotonic()):
                    await wait_until_idle(self._runner, LOOK_AGAIN)
            deadline = find_deadline(settings, stop_by, time.monotonic(), drain_timeout=0)
            await self._runner.drain("the end of live mode", deadline)
        finally:
            get_config().shut_down()
            get_config().begin_anew()
