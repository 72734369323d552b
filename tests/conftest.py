"""Fixtures: a runtime in the test's process, driven as a server drives it, and server processes."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from asgiref.sync import SyncToAsync
from django.apps import apps
from django.db import connections

from bgtasks.definition import declared
from bgtasks.lifespan import Lifespan
from bgtasks.models import BackgroundTask

from . import databases
from .servers import Server


def pytest_configure(config: pytest.Config) -> None:
    share_bytecode(config)
    config.addinivalue_line("markers", "slow: takes long; `make test ALL=1` runs it, as .ci/run does")
    config.addinivalue_line("markers", "databases(*kinds): about these databases only, and not run on another")
    if is_controller(config):
        if fault := databases.find_fault():
            pytest.exit(fault, returncode=pytest.ExitCode.USAGE_ERROR)
        databases.drop_old_databases()


def pytest_unconfigure(config: pytest.Config) -> None:
    if is_controller(config) and not databases.find_fault():
        databases.drop_databases_of_run()


def share_bytecode(config: pytest.Config) -> None:
    """
    Let the processes that the tests start share their bytecode, in a temporary folder.

    Where the environment forbids it in the tree, each of some hundred processes would compile the package anew.
    """
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
        folder = os.environ["PYTHONPYCACHEPREFIX"] = tempfile.mkdtemp(prefix="bgtasks-tests-bytecode-")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def is_controller(config: pytest.Config) -> bool:
    """Report whether this is the main process, not a worker of pytest-xdist."""
    return not hasattr(config, "workerinput")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect tests of other databases. They are not skipped, since they do not apply to this one."""
    left_out = [
        item for item in items if any(databases.KIND not in found.args for found in item.iter_markers("databases"))
    ]
    if left_out:
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)


class Runtime:
    """A server's side of the lifespan protocol."""

    def __init__(self, application: Any = None) -> None:
        self.lifespan = Lifespan(application)
        self._incoming: asyncio.Queue[Any] = asyncio.Queue()
        self._outgoing: asyncio.Queue[Any] = asyncio.Queue()
        self.is_running = False

    def begin(self) -> None:
        """Open the conversation, as `start` does first."""
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        self._task = asyncio.create_task(self.lifespan(scope, self._incoming.get, self._outgoing.put))

    async def start(self) -> dict[str, Any]:
        self.begin()
        answer = await self._ask("lifespan.startup")
        self.is_running = answer["type"] == "lifespan.startup.complete"
        return answer

    async def stop(self) -> None:
        self.is_running = False
        answer = await self._ask("lifespan.shutdown")
        assert answer == {"type": "lifespan.shutdown.complete"}
        await self._task

    async def _ask(self, what: str) -> dict[str, Any]:
        await self._incoming.put({"type": what})
        async with asyncio.timeout(60):
            return await self._outgoing.get()


@pytest_asyncio.fixture
async def runtime(transactional_db: None) -> AsyncIterator[Runtime]:
    """The runtime on the test's own loop, drained at the end of the test."""
    runtime = Runtime()
    await runtime.start()
    yield runtime
    if runtime.is_running:
        await runtime.stop()


@pytest.fixture(autouse=True)
def keep_declarations() -> Iterator[None]:
    """Forget the task functions that a test declares."""
    before = dict(declared)
    yield
    declared.clear()
    declared.update(before)


@pytest.fixture(autouse=True)
def read_anew() -> None:
    """Empty the caches of the admin, which hold values of a test's database for a minute."""
    if (kept := sys.modules.get("bgtasks.admin.shared.cache")) is not None:
        kept.forget_all()


@pytest.fixture(autouse=True)
def fresh_runtime(request: pytest.FixtureRequest) -> Iterator[None]:
    """Leave no thread, connection or row of a test's runtime to the next one."""
    # Set up after the database, so that the runtime has ended, and beats no more, when the tables are emptied.
    if "transactional_db" in request.fixturenames:
        request.getfixturevalue("transactional_db")
    yield
    config = apps.get_app_config("bgtasks")
    config.shut_down()
    config.begin_anew()
    # Of the thread for the tests' own async ORM calls: PostgreSQL drops no database while it is connected.
    SyncToAsync.single_thread_executor.submit(connections.close_all).result()
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("bgtasks-")]
    assert not left, f"These threads outlived the test: {left}"


async def wait_until(condition: Callable[[], Any], seconds: float = 20) -> None:
    """Wait until the condition holds. It may be a coroutine function."""
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if await found if asyncio.iscoroutine(found) else found:
                return
            await asyncio.sleep(0.01)


async def read_row(handle: Any, seconds: float = 20) -> BackgroundTask:
    """Return the row of a task once it is finished."""
    rows = BackgroundTask.objects.filter(pk=handle.id)
    async with asyncio.timeout(seconds):
        while (row := await rows.afirst()) is None or not row.is_finished:
            await asyncio.sleep(0.01)
    return row


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    name = databases.make_database(tmp_path_factory.mktemp("template"))
    yield name
    databases.drop_database(name)


@pytest.fixture
def database(migrated_database: str, tmp_path: Path) -> str:
    """A migrated database without rows, for other processes: the path of a file, or a name."""
    if databases.KIND != "sqlite":
        databases.empty(migrated_database)
        return migrated_database
    return shutil.copy(migrated_database, tmp_path / "db.sqlite3")


@pytest.fixture
def start_server(database: str, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start server processes on one database; none outlives the test."""
    servers: list[Server] = []

    def start(**options: Any) -> Server:
        server = Server(tmp_path, str(database), **options)
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.kill()
