"""The drain of one process: which tasks finish, which are cut short, which are only recorded."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import threading
import time
from typing import Any

import pytest

import bgtasks
from bgtasks.api import get_runner
from bgtasks.journal import journal
from bgtasks.journal.drain_row import write_end
from bgtasks.models import BackgroundTask, Drain, Process
from bgtasks.signals import drained, lifespan_shutdown, lifespan_startup
from bgtasks.status import Status
from tests.app import tasks
from tests.conftest import Runtime, read_row, wait_until
from tests.waiting import next_turn


@pytest.fixture
def short(settings: Any) -> None:
    """A drain with a deadline that is early, but late enough for a short task on a busy machine."""
    settings.BGTASKS = {**settings.BGTASKS, "DRAIN_TIMEOUT": 1.5, "CANCEL_GRACE": 0.5, "MAX_RUNNING": 4}


@pytest.fixture
def patient(settings: Any) -> None:
    """A drain that waits for each task that ends by itself."""
    settings.BGTASKS = {**settings.BGTASKS, "DRAIN_TIMEOUT": 30, "MAX_RUNNING": 4}


async def test_the_numbers(short: None, runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    await wait_until(Process.objects.aexists)  # Otherwise the journal may still connect while the short task ends.
    bgtasks.fire(tasks.sleep, 0.1)
    bgtasks.fire(tasks.sleep, 100)
    bgtasks.fire(tasks.ignore_cancellation, 3.0)
    [stubborn] = [task for task in asyncio.all_tasks() if "ignore_cancellation" in task.get_name()]
    rerun = bgtasks.fire(tasks.sleep_and_rerun, 100)
    waiting = bgtasks.fire(asyncio.sleep(100), name="object")

    with caplog.at_level(logging.INFO, logger="bgtasks"):
        report = await bgtasks.drain()

    numbers = (report.running_at_start, report.finished_count, report.cancelled_count, report.left_count)
    assert numbers == (4, 1, 3, 1)
    assert report.is_written
    drain = await Drain.objects.aget()
    assert (drain.running_at_start, drain.finished_count, drain.cancelled_count, drain.left_count) == numbers
    assert drain.asked_by == "a call of bgtasks.drain()"
    assert drain.names["tests.app.tasks.ignore_cancellation"] == 1
    assert drain.course[0][1] == 5  # It counts the object that waits for a slot too.
    assert drain.course[-1] == [pytest.approx(drain.seconds, abs=0.01), 1]
    assert [left for _, left in drain.course] == sorted((left for _, left in drain.course), reverse=True)
    assert 0 < drain.cut_short_after < drain.seconds
    assert (await Process.objects.aget(pk=drain.process)).state == "STOPPED"
    [line] = [found.getMessage() for found in caplog.records if found.getMessage().startswith("Drained")]
    assert "4 running at the start, 1 finished in time, 3 cut short, 1 left running" in line
    assert "tests.app.tasks.ignore_cancellation ×1" in line
    assert rerun.status is Status.READY
    row = await BackgroundTask.objects.aget(pk=rerun.id)
    assert (row.status, row.attempt, row.process) == ("READY", 0, None)
    assert waiting.status is Status.INTERRUPTED
    await asyncio.wait({stubborn})  # Its row keeps the verdict.
    statuses = [row.status async for row in BackgroundTask.objects.order_by("id")]
    assert statuses == ["SUCCESSFUL", "INTERRUPTED", "INTERRUPTED", "READY", "INTERRUPTED"]


async def test_nothing_runs_it_takes_no_time(runtime: Runtime) -> None:
    began = time.monotonic()
    report = await bgtasks.drain()
    assert time.monotonic() - began < 5
    assert (report.running_at_start, report.is_written) == (0, True)


async def test_a_second_drain_is_the_same(patient: None, runtime: Runtime) -> None:
    bgtasks.fire(tasks.sleep, 0.1)
    one, two = await asyncio.gather(bgtasks.drain(), bgtasks.drain())
    assert one is two
    assert await bgtasks.drain() is one
    assert await Drain.objects.acount() == 1


async def test_a_cancelled_wait_for_the_end_writes_it_once(
    patient: None, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop ends while the journal writes the end of the drain."""
    runner = get_runner()
    loop = asyncio.get_running_loop()
    calls = itertools.count()

    def write_and_cancel(*args: Any) -> None:
        write_end(*args)
        if next(calls) == 0:
            loop.call_soon_threadsafe(runner._drain.cancel)

    monkeypatch.setattr(journal, "write_end", write_and_cancel)

    report = await bgtasks.drain()

    assert report.is_written
    await asyncio.to_thread(runner.journal.stop, time.monotonic() + 10)
    assert await Drain.objects.acount() == 1


async def test_timeout_zero(short: None, runtime: Runtime) -> None:
    handle = bgtasks.fire(tasks.sleep, 100)
    await bgtasks.drain(timeout=0)
    with pytest.raises(bgtasks.TaskInterrupted):
        await handle


async def test_inside_a_task_it_is_an_error(runtime: Runtime) -> None:
    handle = bgtasks.fire(bgtasks.drain(), name="drains")
    with pytest.raises(bgtasks.TaskFailed, match="would wait for that task"):
        await handle


async def test_what_is_fired_while_draining(patient: None, runtime: Runtime) -> None:
    """A task function is recorded for other processes, a coroutine is refused, the child of a task is drained."""
    parent = bgtasks.fire(tasks.fire_child_when_draining, 0.05)
    draining = asyncio.ensure_future(bgtasks.drain())
    await next_turn()

    registered = bgtasks.fire(tasks.succeed, 1)
    recorded = await bgtasks.afire(tasks.succeed, 2)
    with pytest.raises(bgtasks.Draining, match="coroutine"):
        bgtasks.fire(asyncio.sleep(0), name="object")
    with pytest.raises(bgtasks.Draining):
        bgtasks.fire(asyncio.sleep, 0)
    with pytest.raises(bgtasks.Draining):
        await bgtasks.afire(asyncio.sleep(0), name="object")
    gc.collect()
    assert (registered.status, recorded.status) == (Status.READY, Status.READY)
    await draining
    assert parent.status is Status.SUCCESSFUL
    rows = {row.pk: row async for row in BackgroundTask.objects.all()}
    assert len(rows) == 4
    assert rows[registered.id].status == rows[recorded.id].status == "READY"
    assert sum(row.status == "SUCCESSFUL" for row in rows.values()) == 2


async def test_after_the_end_nothing_is_taken(runtime: Runtime) -> None:
    await runtime.stop()
    with pytest.raises(bgtasks.Draining, match="records nothing more"):
        bgtasks.fire(tasks.succeed)
    with pytest.raises(bgtasks.Draining):
        await bgtasks.afire(tasks.succeed)
    with pytest.raises(bgtasks.Draining):
        bgtasks.fire(asyncio.sleep(0))


async def test_waiting_objects_start_as_slots_become_free(patient: None, runtime: Runtime) -> None:
    busy = [bgtasks.fire(tasks.sleep, 0.1) for _ in range(4)]
    waiting = [bgtasks.fire(asyncio.sleep(0.05, number), name="object") for number in range(3)]
    report = await bgtasks.drain()
    assert [handle.status for handle in busy + waiting] == [Status.SUCCESSFUL] * 7
    assert report.finished_count == 7


async def test_waiting_functions_stay_in_the_table(patient: None, runtime: Runtime) -> None:
    busy = [bgtasks.fire(tasks.sleep, 0.1) for _ in range(4)]
    waiting = [bgtasks.fire(tasks.succeed, number) for number in range(20)]
    await bgtasks.drain()
    assert [handle.status for handle in busy] == [Status.SUCCESSFUL] * 4
    rows = BackgroundTask.objects.filter(pk__in=[handle.id for handle in waiting])
    assert {row.status async for row in rows} == {"READY"}
    assert await rows.acount() == 20


async def test_the_order_of_the_signals(runtime: Runtime) -> None:
    """Tasks drain first, so receivers of `drained` may close resources. A second start-up begins anew."""
    seen: list[str] = []

    async def use_until_the_end() -> None:
        await asyncio.sleep(0.1)
        seen.append("task")

    async def on_shutdown(**kwargs: Any) -> None:
        seen.append("lifespan_shutdown")

    def on_drained(**kwargs: Any) -> None:
        seen.append(f"drained, {bgtasks.pending_task_count()} pending")

    async def on_startup(**kwargs: Any) -> None:
        seen.append("lifespan_startup")

    lifespan_startup.connect(on_startup)
    lifespan_shutdown.connect(on_shutdown)
    drained.connect(on_drained)
    try:
        bgtasks.fire(use_until_the_end())
        await runtime.stop()
        assert seen == ["lifespan_shutdown", "task", "drained, 0 pending"]
        await runtime.start()
        assert await bgtasks.fire(tasks.succeed, "again") == "again"
    finally:
        lifespan_startup.disconnect(on_startup)
        lifespan_shutdown.disconnect(on_shutdown)
        drained.disconnect(on_drained)
    assert seen[-1] == "lifespan_startup"
    await runtime.stop()
    assert await Process.objects.acount() == 2


async def test_a_receiver_that_raises_does_not_keep_the_server(runtime: Runtime, caplog: Any) -> None:
    async def fail(**kwargs: Any) -> None:
        raise RuntimeError("broken receiver")

    lifespan_shutdown.connect(fail)
    drained.connect(fail)
    handle = bgtasks.fire(tasks.sleep, 0.1)
    try:
        await runtime.stop()
    finally:
        lifespan_shutdown.disconnect(fail)
        drained.disconnect(fail)
    assert handle.status is Status.SUCCESSFUL
    assert caplog.text.count("broken receiver") >= 2


async def test_a_start_up_that_fails_is_reported_to_the_server(transactional_db: None, caplog: Any) -> None:
    async def fail(**kwargs: Any) -> None:
        raise RuntimeError("no connection to the mail server")

    lifespan_startup.connect(fail)
    runtime = Runtime()
    try:
        answer = await runtime.start()
    finally:
        lifespan_startup.disconnect(fail)
    assert answer == {"type": "lifespan.startup.failed", "message": "RuntimeError: no connection to the mail server"}
    await wait_until(lambda: runtime._task.done())


async def test_the_inner_applications_lifespan_is_passed_on(transactional_db: None) -> None:
    seen: list[str] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        for what in ("startup", "shutdown"):
            message = await receive()
            assert message == {"type": f"lifespan.{what}"}
            seen.append(f"{what}, {bgtasks.pending_task_count()} pending")
            await send({"type": f"lifespan.{what}.complete"})

    runtime = Runtime(inner)
    assert await runtime.start() == {"type": "lifespan.startup.complete"}
    bgtasks.fire(tasks.sleep, 0.1)
    await runtime.stop()
    assert seen == ["startup, 0 pending", "shutdown, 0 pending"]


async def test_an_inner_application_that_cannot_start(transactional_db: None, caplog: Any) -> None:
    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no"})

    answer = await Runtime(inner).start()
    assert answer == {"type": "lifespan.startup.failed", "message": "RuntimeError: no"}


async def test_an_inner_application_without_lifespan(transactional_db: None) -> None:
    from django.core.asgi import get_asgi_application

    runtime = Runtime(get_asgi_application())
    assert await runtime.start() == {"type": "lifespan.startup.complete"}
    assert await bgtasks.fire(tasks.succeed, 1) == 1
    await runtime.stop()


async def test_a_thread_that_cannot_be_cancelled(runtime: Runtime) -> None:
    """A plain function goes on in its thread. Its verdict is given at once, and its late end changes nothing."""

    begun, gate = threading.Event(), threading.Event()

    @bgtasks.task(name="blocks_its_thread")
    def block() -> bool:
        begun.set()
        return gate.wait(20)

    handle = bgtasks.fire(block)
    [attempt] = [task for task in asyncio.all_tasks() if "blocks_its_thread" in task.get_name()]
    await wait_until(begun.is_set)
    report = await bgtasks.drain(timeout=0)
    assert report.cancelled_count == 1
    assert (await read_row(handle)).status == "INTERRUPTED"
    gate.set()
    await asyncio.wait({attempt})
    assert (await read_row(handle)).status == "INTERRUPTED"
