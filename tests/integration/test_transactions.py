"""Firing in a transaction of sync code: the row is committed with the caller's data, or not at all."""

from __future__ import annotations

import asyncio
import gc
import threading
from contextlib import suppress
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group
from django.db import OperationalError, connections, transaction

import bgtasks
from bgtasks.models import BackgroundTask
from bgtasks.status import Status
from tests.app import tasks
from tests.conftest import Runtime, read_row
from tests.waiting import next_turn, stays


class Undo(Exception):
    pass


async def test_the_row_is_written_in_the_callers_transaction(runtime: Runtime) -> None:
    def work() -> Any:
        with transaction.atomic():
            Group.objects.create(name="with the data")
            handle = bgtasks.fire(tasks.succeed, {"a": 1})
            row = BackgroundTask.objects.get(pk=handle.id)  # Visible on this connection only.
            assert (row.status, row.process, row.attempt) == ("READY", None, 0)
            return handle

    handle = await sync_to_async(work)()
    assert await handle.wait(timeout=10) == {"a": 1}
    row = await read_row(handle)
    assert [entry["status"] for entry in row.transitions] == ["READY", "RUNNING", "SUCCESSFUL"]


async def test_it_starts_only_after_the_commit(runtime: Runtime) -> None:
    begun = threading.Event()

    @bgtasks.task(name="reads_the_data")
    async def read() -> int:
        begun.set()
        return await Group.objects.acount()

    def work() -> Any:
        with transaction.atomic():
            handle = bgtasks.fire(read)
            stays(lambda: not begun.is_set(), 0.3, why="a task that waits for no commit begins within milliseconds")
            Group.objects.create(name="late")
        return handle

    assert await (await sync_to_async(work)()).wait(timeout=10) == 1


async def test_a_rollback_leaves_nothing(runtime: Runtime) -> None:
    def work() -> Any:
        handle = None
        with suppress(Undo), transaction.atomic():
            handle = bgtasks.fire(tasks.succeed, 1)
            raise Undo
        return handle

    handle = await sync_to_async(work)()
    with pytest.raises(bgtasks.RolledBack, match="rolled back"):
        await handle.wait(timeout=10)
    with pytest.raises(bgtasks.RolledBack):
        handle.status  # noqa: B018
    assert "rolled back" in repr(handle)
    assert not handle.cancel()
    assert await BackgroundTask.objects.acount() == 0
    assert bgtasks.pending_task_count() == 0


async def test_a_caller_that_waits_already_learns_of_the_rollback(runtime: Runtime) -> None:
    waiting = []
    loop = asyncio.get_running_loop()

    def work() -> None:
        with suppress(Undo), transaction.atomic():
            handle = bgtasks.fire(tasks.succeed, 1)
            waiting.append(asyncio.run_coroutine_threadsafe(handle.wait(timeout=10), loop))
            raise Undo

    await sync_to_async(work)()
    with pytest.raises(bgtasks.RolledBack):
        await asyncio.wrap_future(waiting[0])


async def test_savepoints(runtime: Runtime) -> None:
    def work() -> Any:
        with transaction.atomic():
            outer = bgtasks.fire(tasks.succeed, "outer")
            with suppress(Undo), transaction.atomic():
                undone = bgtasks.fire(tasks.succeed, "undone")
                raise Undo
            with transaction.atomic():
                inner = bgtasks.fire(tasks.succeed, "inner")
        return outer, undone, inner

    outer, undone, inner = await sync_to_async(work)()
    assert await outer.wait(timeout=10) == "outer"
    assert await inner.wait(timeout=10) == "inner"
    with pytest.raises(bgtasks.RolledBack):
        await undone
    assert await BackgroundTask.objects.acount() == 2


async def test_coroutines_are_fired_at_the_commit_and_closed_on_rollback(runtime: Runtime) -> None:
    started: list[str] = []

    async def note(what: str) -> str:
        started.append(what)
        return what

    def work() -> Any:
        with suppress(Undo), transaction.atomic():
            undone = bgtasks.fire(note("undone"), name="undone")
            bgtasks.fire(note, "undone too")
            raise Undo
        with transaction.atomic():
            done = [bgtasks.fire(note("object"), name="object"), bgtasks.fire(note, "function")]
            assert started == []
        return undone, done

    undone, done = await sync_to_async(work)()
    assert await asyncio.gather(*done) == ["object", "function"]
    with pytest.raises(bgtasks.RolledBack):
        await undone
    gc.collect()  # A coroutine that is not closed warns, and warnings are errors.
    assert sorted(started) == ["function", "object"]


@pytest.mark.parametrize("how", ["option", "setting"])
async def test_opting_out(settings: Any, transactional_db: None, how: str) -> None:
    """It is fired at once and does not depend on the transaction."""
    if how == "setting":
        settings.BGTASKS = {**settings.BGTASKS, "FIRE_ON_COMMIT": False}
    runtime = Runtime()
    await runtime.start()
    task = tasks.succeed.using(fire_on_commit=False) if how == "option" else tasks.succeed

    def work() -> Any:
        with suppress(Undo), transaction.atomic():
            handle = bgtasks.fire(task, 5)
            raise Undo
        return handle

    handle = await sync_to_async(work)()
    assert await handle.wait(timeout=10) == 5
    assert (await read_row(handle)).status == "SUCCESSFUL"
    await runtime.stop()


async def test_the_arguments_are_checked_at_the_call(runtime: Runtime) -> None:
    def work() -> None:
        with transaction.atomic():
            with pytest.raises(TypeError):
                bgtasks.fire(tasks.succeed, object())
            with pytest.raises(TypeError):
                bgtasks.fire(tasks.succeed, wrong=1)
            Group.objects.create(name="the transaction goes on")

    await sync_to_async(work)()
    assert await Group.objects.acount() == 1
    assert await BackgroundTask.objects.acount() == 0


async def test_a_commit_that_fails(runtime: Runtime) -> None:
    def fail() -> None:
        raise OperationalError("the connection broke at COMMIT")

    def work() -> Any:
        wrapper = connections["default"]
        wrapper._commit = fail
        try:
            with pytest.raises(OperationalError), transaction.atomic():
                handle = bgtasks.fire(tasks.succeed, 1)
            return handle
        finally:
            del wrapper._commit

    handle = await sync_to_async(work)()
    with pytest.raises(bgtasks.RolledBack):
        await handle.wait(timeout=10)
    assert await BackgroundTask.objects.acount() == 0


async def test_many_in_one_transaction(runtime: Runtime) -> None:
    def work() -> Any:
        with transaction.atomic():
            return [bgtasks.fire(tasks.succeed, number) for number in range(300)]

    handles = await sync_to_async(work)()
    assert await asyncio.gather(*handles) == list(range(300))


async def test_a_plain_function_fires_in_its_transaction(runtime: Runtime) -> None:
    """A plain task function in its thread fires as a view does."""

    @bgtasks.task(name="fires_in_atomic")
    def parent() -> str:
        with transaction.atomic():
            Group.objects.create(name="from a task")
            return str(bgtasks.fire(tasks.succeed, 1).id)

    found = await bgtasks.fire(parent)

    class Found:
        id = found

    assert (await read_row(Found)).status == Status.SUCCESSFUL


async def test_while_draining(settings: Any, runtime: Runtime) -> None:
    gate = asyncio.Event()
    busy = bgtasks.fire(gate.wait())
    draining = asyncio.ensure_future(bgtasks.drain())
    await next_turn()

    def work() -> Any:
        with transaction.atomic():
            handle = bgtasks.fire(tasks.succeed, 1)
            with pytest.raises(bgtasks.Draining):
                bgtasks.fire(asyncio.sleep(0))
        return handle

    handle = await sync_to_async(work)()
    gate.set()
    await draining
    await busy
    assert (await BackgroundTask.objects.aget(pk=handle.id)).status == "READY"
