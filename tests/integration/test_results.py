"""The result of any task in any process, by its handle or its id."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from asgiref.sync import sync_to_async
from django.apps import apps
from django.utils import timezone

import bgtasks
from bgtasks.models import BackgroundTask
from bgtasks.uuid7 import uuid7
from tests.app import tasks
from tests.conftest import Runtime, read_row, wait_until
from tests.waiting import next_turn


def get_runner() -> Any:
    return apps.get_app_config("bgtasks").runtime


async def make_row(**values: Any) -> BackgroundTask:
    """Make a row of another process."""
    now = timezone.now()
    status = values.get("status", "RUNNING")
    if status not in ("READY", "RUNNING"):
        values.setdefault("finished_at", now)
    process = None if status == "READY" else uuid7()
    return await BackgroundTask.objects.acreate(
        **{"name": "elsewhere", "status": status, "process": process, "attempt": 1, "created_at": now, **values}
    )


# By an id.


@pytest.mark.parametrize("kind", [str, UUID, lambda id_: id_.hex, lambda id_: str(id_).upper()])
async def test_an_id_as_text_or_uuid(runtime: Runtime, kind: Any) -> None:
    row = await make_row(status="SUCCESSFUL", result={"a": [1]})
    handle = await bgtasks.aget(kind(str(row.pk)) if kind is UUID else kind(row.pk))
    assert (handle.id, handle.name, handle.status) == (row.pk, "elsewhere", "SUCCESSFUL")
    assert await handle == {"a": [1]}
    found = await asyncio.to_thread(get_and_close, str(row.pk))
    assert await asyncio.to_thread(found.result) == {"a": [1]}


def get_and_close(task_id: Any) -> Any:
    from django.db import connections

    try:
        return bgtasks.get(task_id)
    finally:
        connections.close_all()


@pytest.mark.parametrize("wrong", ["", "no id", "123", 5, None, b"x"])
async def test_what_is_no_id(runtime: Runtime, wrong: Any) -> None:
    with pytest.raises(ValueError, match="A task's id is a UUID, not"):
        await bgtasks.aget(wrong)
    with pytest.raises(ValueError, match="A task's id is a UUID, not"):
        await asyncio.to_thread(bgtasks.get, wrong)


async def test_an_unknown_id(runtime: Runtime) -> None:
    unknown = uuid7()
    with pytest.raises(bgtasks.TaskNotFound, match=str(unknown)) as caught:
        await bgtasks.aget(unknown)
    assert caught.value.id == unknown
    assert isinstance(caught.value, LookupError)
    with pytest.raises(bgtasks.TaskNotFound):
        await asyncio.to_thread(get_and_close, unknown)


async def test_get_on_an_event_loop_names_aget(runtime: Runtime) -> None:
    with pytest.raises(RuntimeError, match=r"await bgtasks.aget\(\)"):
        bgtasks.get(uuid7())


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        ("FAILED", bgtasks.TaskFailed, r"elsewhere \(.*\) failed. ValueError: n/a"),
        ("CANCELLED", bgtasks.TaskCancelled, "was cancelled"),
        ("INTERRUPTED", bgtasks.TaskInterrupted, "was interrupted by a drain"),
        ("LOST", bgtasks.TaskLost, "was lost with its process"),
    ],
)
async def test_what_ended_without_a_result(runtime: Runtime, status: str, error: Any, words: str) -> None:
    details = {"error_type": "ValueError", "error_message": "n/a"} if status == "FAILED" else {}
    row = await make_row(status=status, **details)
    handle = await bgtasks.aget(row.pk)
    with pytest.raises(error, match=words) as caught:
        await handle.wait(timeout=20)
    assert caught.value.id == row.pk
    assert not handle.cancel()

    live = await make_row()  # The same for a caller that waits from the beginning.
    waiting = asyncio.ensure_future((await bgtasks.aget(live.pk)).wait(timeout=20))
    await next_turn()
    await BackgroundTask.objects.filter(pk=live.pk).aupdate(status=status, finished_at=timezone.now(), **details)
    with pytest.raises(error, match=words):
        await waiting


async def test_one_of_this_process_is_itself(runtime: Runtime) -> None:
    """The result is the object itself, and the failure has its cause."""
    goes_on = asyncio.Event()

    @bgtasks.task(name="returns_a_tuple")
    async def returns_a_tuple() -> tuple[int, int]:
        await goes_on.wait()
        return 1, 2

    fired = bgtasks.fire(returns_a_tuple)
    handle = await bgtasks.aget(fired.id)
    goes_on.set()
    assert await handle == (1, 2)
    await read_row(fired)
    assert await (await bgtasks.aget(fired.id)) == [1, 2]


async def test_one_that_waits_is_cancelled_by_its_id(runtime: Runtime) -> None:
    fired = await bgtasks.afire(tasks.succeed.using(run_after=timedelta(hours=1)))
    other = await make_row(status="READY")
    for id_ in (fired.id, other.pk):
        handle = await bgtasks.aget(id_)
        assert handle.cancel()
        with pytest.raises(bgtasks.TaskCancelled):
            await handle.wait(timeout=20)


async def test_one_that_this_process_comes_to_run(runtime: Runtime) -> None:
    row = await make_row(status="READY", name="tests.app.tasks.succeed", attempt=0, args=[7])
    handle = await bgtasks.aget(row.pk)
    assert await handle.wait(timeout=20) == 7


async def test_a_timeout_says_that_it_goes_on(runtime: Runtime) -> None:
    row = await make_row()
    handle = await bgtasks.aget(row.pk)
    with pytest.raises(TimeoutError):
        await handle.wait(timeout=0.05)
    with pytest.raises(TimeoutError, match=r"is not over after 0\.05 s\. It goes on\."):
        await asyncio.to_thread(handle.result, 0.05)
    assert handle.status is bgtasks.Status.RUNNING


# Blocking.


async def test_a_thread_may_block_for_a_result(runtime: Runtime) -> None:
    handle = bgtasks.fire(tasks.sleep, 0.1)
    assert await asyncio.to_thread(handle.result, 20) == 0.1
    failed = bgtasks.fire(tasks.fail)
    with pytest.raises(bgtasks.TaskFailed) as caught:
        await asyncio.to_thread(failed.result, 20)
    assert isinstance(caught.value.__cause__, ValueError)
    row = await make_row()
    found = await bgtasks.aget(row.pk)
    waiting = asyncio.ensure_future(asyncio.to_thread(found.result, 20))
    await BackgroundTask.objects.filter(pk=row.pk).aupdate(
        status="SUCCESSFUL", result="theirs", finished_at=timezone.now()
    )
    assert await waiting == "theirs"


async def test_blocking_is_refused_where_it_would_never_end(runtime: Runtime) -> None:
    handle = bgtasks.fire(tasks.sleep, 60)
    with pytest.raises(RuntimeError, match=r"stop the event loop\. Use `await handle`"):
        handle.result()

    @bgtasks.task(name="blocks_its_lane")
    async def blocks_its_lane() -> str:
        try:
            await sync_to_async(handle.result)(20)
        except RuntimeError as error:
            return str(error)
        return ""

    assert "database thread" in await bgtasks.fire(blocks_its_lane)
    errors: list[str] = []
    is_told = threading.Event()

    def block_the_journal() -> None:
        try:
            handle.result(20)
        except RuntimeError as error:
            errors.append(str(error))
        is_told.set()

    get_runner().journal.submit(block_the_journal)
    await wait_until(is_told.is_set)
    assert "journal" in errors[0]
    assert "await handle" in errors[0]
    handle.cancel()


async def test_a_plain_function_may_block_for_another_task(runtime: Runtime) -> None:
    @bgtasks.task(name="asks_another")
    def asks_another() -> Any:
        return bgtasks.fire(tasks.succeed, 5).result(timeout=20)

    assert await bgtasks.fire(asks_another).wait(timeout=20) == 5


# Deleted rows.


@pytest.mark.parametrize("status", ["READY", "RUNNING"])
async def test_a_row_that_is_deleted_while_a_caller_waits(runtime: Runtime, status: str) -> None:
    row = await make_row(status=status)
    handle = await bgtasks.aget(row.pk)
    waiting = [asyncio.ensure_future(handle.wait(timeout=20)), asyncio.to_thread(handle.result, 20)]
    waiting[1] = asyncio.ensure_future(waiting[1])
    await wait_until(lambda: len(handle._record.waiters or ()) == 2)
    await BackgroundTask.objects.filter(pk=row.pk).adelete()
    for wait in waiting:
        with pytest.raises(bgtasks.TaskNotFound):
            await wait
    with pytest.raises(bgtasks.TaskNotFound):
        handle.status  # noqa: B018
    assert "deleted" in repr(handle)
    assert not handle.cancel()


async def test_a_fired_task_whose_row_is_deleted_while_it_waits(runtime: Runtime) -> None:
    handle = await bgtasks.afire(tasks.succeed.using(run_after=timedelta(hours=1)))
    waiting = asyncio.ensure_future(handle.wait(timeout=20))
    await next_turn()
    await BackgroundTask.objects.filter(pk=handle.id).adelete()
    with pytest.raises(bgtasks.TaskNotFound):
        await waiting


async def test_what_is_not_written_yet_is_not_gone(runtime: Runtime, monkeypatch: Any) -> None:
    """The task was handed over in memory, a caller awaits it, and its insert takes long."""
    await (await bgtasks.afire(tasks.succeed))
    runner = get_runner()
    [watcher] = [service for service in runner.journal.services if type(service).__name__ == "EndWatcher"]
    looks = [0]
    write = runner.journal._write_pending
    run_once = watcher.run_once

    def look(now: float) -> None:
        looks[0] += 1
        run_once(now)

    monkeypatch.setattr(watcher, "run_once", look)
    monkeypatch.setattr(
        runner.journal,
        "_write_pending",
        lambda: runner.journal._choose(list(runner.journal._selection.pending.values())),
    )
    handle = bgtasks.fire(tasks.succeed.using(run_after=timedelta(seconds=0.5)), 5)
    waiting = asyncio.ensure_future(handle.wait(timeout=20))
    await wait_until(lambda: looks[0] >= 3)
    assert not waiting.done()
    monkeypatch.setattr(runner.journal, "_write_pending", write)
    assert await waiting == 5


# Attempts elsewhere.


async def test_an_attempt_that_another_process_makes(runtime: Runtime) -> None:
    """A caller waits while it runs here; another process makes its next attempt."""

    gate = asyncio.Event()

    @bgtasks.task(name="fails_here", max_attempts=2, backoff="constant", backoff_first=60, backoff_jitter=False)
    async def fails_here() -> None:
        await gate.wait()
        raise ValueError("once")

    handle = await bgtasks.afire(fails_here)
    waiting = asyncio.ensure_future(handle.wait(timeout=20))
    await next_turn()
    gate.set()
    rows = BackgroundTask.objects.filter(pk=handle.id)
    await wait_until(lambda: rows.filter(status="READY").aexists())
    await rows.aupdate(status="SUCCESSFUL", result="elsewhere", finished_at=timezone.now(), attempt=2)
    assert await waiting == "elsewhere"


async def test_what_a_drain_hands_back_ends_elsewhere(settings: Any, transactional_db: None) -> None:
    settings.BGTASKS = {**settings.BGTASKS, "DRAIN_TIMEOUT": 0.1}
    runtime = Runtime()
    await runtime.start()
    handle = await bgtasks.afire(tasks.sleep_and_rerun, 60)
    waiting = asyncio.ensure_future(handle.wait(timeout=20))
    await bgtasks.drain(timeout=0.1)
    rows = BackgroundTask.objects.filter(pk=handle.id)
    await wait_until(lambda: rows.filter(status="READY").aexists())
    await rows.aupdate(status="SUCCESSFUL", result="elsewhere", finished_at=timezone.now())
    assert await waiting == "elsewhere"
    await runtime.stop()


# Options of the firing, in the process that claims.


@pytest.fixture
def no_slots(settings: Any) -> None:
    settings.BGTASKS = {**settings.BGTASKS, "MAX_RUNNING": 1}


def claim_afresh(handle: Any) -> None:
    """Make this process forget the firing, so that it claims the row as another process would."""
    get_runner().registry.handed_over.pop(handle.id.int, None)


async def test_options_of_the_firing_survive_the_claim(no_slots: None, runtime: Runtime) -> None:
    seen: list[Any] = []

    @bgtasks.task(name="looks", timeout=600)
    async def looks() -> None:
        runner_record = get_runner().registry.live[bgtasks.current().id.int]
        options = runner_record.task.options
        seen.append((bgtasks.current().attempt, options.timeout, options.max_attempts, options.backoff_first))
        raise ValueError("each time")

    busy = bgtasks.fire(tasks.sleep, 0.3)
    later = timedelta(seconds=0.05)
    handle = await bgtasks.afire(
        looks.using(
            timeout=30,
            max_attempts=3,
            backoff="constant",
            backoff_first=0.01,
            queue="slow",
            priority=7,
            run_after=later,
        )
    )
    row = await BackgroundTask.objects.aget(pk=handle.id)
    assert (row.queue_name, row.priority, row.max_attempts) == ("slow", 7, 3)
    id_ = handle.id
    del handle
    claim_afresh(type("Known", (), {"id": id_}))
    await busy
    found = await read_row(type("Known", (), {"id": id_}))
    assert (found.status, found.attempt, found.queue_name, found.priority) == ("FAILED", 3, "slow", 7)
    assert seen == [(1, 30, 3, 0.01), (2, 30, 3, 0.01), (3, 30, 3, 0.01)]


@pytest.mark.parametrize(
    ("declared", "given", "attempts"),
    [
        ({"on_lost": "rerun"}, {"max_attempts": 3}, 3),  # The default number too, but given it means retries.
        ({}, {"on_lost": "rerun"}, 1),  # It may start three times, but an exception ends it.
        ({"max_attempts": 3}, {"max_attempts": 1}, 1),
        ({"max_attempts": 3}, {"max_attempts": None}, 1),
        ({"max_attempts": 3, "backoff": "linear"}, {"max_attempts": 1}, 1),
    ],
)
async def test_attempts_of_what_is_claimed(runtime: Runtime, declared: Any, given: Any, attempts: int) -> None:
    @bgtasks.task(name="fails_always", **declared)
    async def fails_always() -> None:
        raise ValueError("each time")

    quick = {"backoff_first": 0.01} if (given.get("max_attempts") or 1) > 1 else {}
    handle = await bgtasks.afire(fails_always.using(**given, **quick, run_after=timedelta(seconds=0.05)))
    known = type("Known", (), {"id": handle.id})
    claim_afresh(known)
    row = await read_row(known)
    assert (row.status, row.attempt) == ("FAILED", attempts)


async def test_options_that_no_longer_fit_together(runtime: Runtime) -> None:
    """A release that declared more attempts has fired the function. Its row is run all the same."""

    @bgtasks.task(name="declares_less")
    async def declares_less() -> str:
        return "done"

    row = await make_row(
        name="declares_less",
        status="READY",
        attempt=0,
        options={"backoff": "linear", "backoff_first": 700, "timeout": 5},
    )
    assert await (await bgtasks.aget(row.pk)).wait(timeout=20) == "done"
