"""A task that finds no free slot waits in the table, and any process may start it from there."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.utils import timezone

import bgtasks
from bgtasks.models import BackgroundTask
from bgtasks.status import Status
from tests.app import tasks
from tests.conftest import Runtime, read_row, wait_until
from tests.waiting import astays


@pytest.fixture
def few_slots(settings: Any) -> None:
    settings.BGTASKS = {**settings.BGTASKS, "MAX_RUNNING": 2}


async def count_running() -> int:
    return sum(handle.status is Status.RUNNING for handle in bgtasks.live_tasks())


async def test_the_bound_holds_and_everything_ends(few_slots: None, runtime: Runtime) -> None:
    highest = 0
    running = 0

    async def count(number: int) -> int:
        nonlocal highest, running
        running += 1
        highest = max(highest, running)
        await asyncio.sleep(0.01)
        running -= 1
        return number

    @bgtasks.task(name="counts")
    async def counted(number: int) -> int:
        return await count(number)

    handles = [bgtasks.fire(counted, number) for number in range(60)]
    handles += [bgtasks.fire(count(number), name="object") for number in range(60, 80)]
    handles += list(await asyncio.gather(*[bgtasks.afire(counted, number) for number in range(80, 100)]))
    assert await asyncio.gather(*handles) == list(range(100))
    assert highest == 2


async def test_what_waits_is_ready_in_the_table(few_slots: None, runtime: Runtime) -> None:
    busy = [bgtasks.fire(tasks.sleep, 0.5) for _ in range(2)]
    waiting = bgtasks.fire(tasks.succeed, 5)
    waiting_object = bgtasks.fire(asyncio.sleep(0, "result"), name="object")

    await wait_until(lambda: _count_ready(2))
    row = await BackgroundTask.objects.aget(pk=waiting.id)
    assert (row.attempt, row.process, row.started_at) == (0, None, None)
    row = await BackgroundTask.objects.aget(pk=waiting_object.id)
    assert row.process is not None  # No other process can start it.
    await asyncio.gather(*busy)
    assert await waiting == 5
    assert await waiting_object == "result"
    row = await read_row(waiting)
    assert [entry["status"] for entry in row.transitions] == ["READY", "RUNNING", "SUCCESSFUL"]
    assert row.transitions[1]["attempt"] == 1
    assert row.attempt == 1


async def _count_ready(number: int) -> bool:
    return await BackgroundTask.objects.filter(status="READY").acount() == number


async def test_a_short_burst_never_touches_the_table_twice(few_slots: None, runtime: Runtime) -> None:
    """A task that gets a slot within milliseconds starts here. Its history says READY, its row never does."""
    handles = [bgtasks.fire(tasks.succeed, number) for number in range(4)]
    rows = [await read_row(handle) for handle in handles]
    assert {row.process for row in rows} == {rows[0].process}
    assert [entry["why"] for entry in rows[3].transitions] == ["fired", "a slot became free", "returned"]


async def test_a_row_from_another_process_is_claimed(runtime: Runtime) -> None:
    row = await BackgroundTask.objects.acreate(
        name="tests.app.tasks.succeed", args=[{"from": "elsewhere"}], created_at=timezone.now(), transitions=[]
    )
    found = await read_row_by_id(row.pk)
    assert (found.status, found.result, found.attempt) == ("SUCCESSFUL", {"from": "elsewhere"}, 1)


async def read_row_by_id(pk: Any) -> BackgroundTask:
    class Found:
        id = pk

    return await read_row(Found)


async def test_what_is_not_ours_is_left_alone(runtime: Runtime) -> None:
    now = timezone.now()
    make = BackgroundTask.objects.acreate
    unknown = await make(name="no.such.task", created_at=now)
    later = await make(name="tests.app.tasks.succeed", created_at=now, run_after=now + timezone.timedelta(hours=1))
    owned = await make(name="tests.app.tasks.succeed", created_at=now, process=bgtasks.uuid7.uuid7())
    known = await make(name="tests.app.tasks.succeed", created_at=now)

    await read_row_by_id(known.pk)
    others = BackgroundTask.objects.filter(pk__in=[unknown.pk, later.pk, owned.pk], status="READY")

    async def are_ready() -> bool:
        return await others.acount() == 3

    await astays(are_ready, 0.2, why="four times POLL_INTERVAL")


async def test_arguments_that_no_longer_fit_fail_the_task(runtime: Runtime) -> None:
    row = await BackgroundTask.objects.acreate(
        name="tests.app.tasks.succeed", kwargs={"gone": 1}, created_at=timezone.now()
    )
    found = await read_row_by_id(row.pk)
    assert found.status == "FAILED"
    assert "no longer fit" in found.transitions[-1]["why"]
    assert "gone" in found.error_message
    assert await bgtasks.fire(tasks.succeed, "a slot is free") == "a slot is free"


async def test_malformed_rows_stop_no_other_task(runtime: Runtime) -> None:
    """Arguments or a history that are no list do not stop other tasks."""
    now = timezone.now()
    make = BackgroundTask.objects.acreate
    bad = [
        await make(name="tests.app.tasks.succeed", args={"not": "a list"}, created_at=now),
        await make(name="tests.app.tasks.succeed", args=5, created_at=now),
        await make(name="tests.app.tasks.succeed", kwargs=["no", "dict"], created_at=now),
    ]
    good = await make(name="tests.app.tasks.succeed", args=[1], created_at=now)
    assert (await read_row_by_id(good.pk)).status == "SUCCESSFUL"
    for row in bad[1:]:
        assert (await read_row_by_id(row.pk)).status == "FAILED"


async def test_higher_priority_first(settings: Any, transactional_db: None) -> None:
    settings.BGTASKS = {**settings.BGTASKS, "MAX_RUNNING": 1}
    runtime = Runtime()
    await runtime.start()
    busy = [bgtasks.fire(tasks.sleep, 0.3)]
    now = timezone.now()
    rows = await BackgroundTask.objects.abulk_create(
        BackgroundTask(name="tests.app.tasks.sleep", args=[0.05], created_at=now, priority=priority)
        for priority in (-5, 0, 50, 0)
    )
    await asyncio.gather(*busy)
    done = [await read_row_by_id(row.pk) for row in rows]
    started = sorted(done, key=lambda row: row.started_at)
    assert [row.priority for row in started] == [50, 0, 0, -5]
    assert started[1].pk < started[2].pk
    await runtime.stop()


async def test_cancel_what_waits_in_the_table(few_slots: None, runtime: Runtime) -> None:
    busy = [bgtasks.fire(tasks.sleep, 0.5) for _ in range(2)]
    waiting = bgtasks.fire(tasks.succeed)
    await wait_until(lambda: _count_ready(1))
    assert waiting.cancel()
    with pytest.raises(bgtasks.TaskCancelled):
        await waiting.wait(timeout=10)
    assert (await read_row(waiting)).status == "CANCELLED"
    await asyncio.gather(*busy)


async def test_cancel_an_object_that_waits(few_slots: None, runtime: Runtime) -> None:
    busy = [bgtasks.fire(tasks.sleep, 0.3) for _ in range(2)]
    waiting = bgtasks.fire(asyncio.sleep(0), name="object")
    assert waiting.cancel()
    with pytest.raises(bgtasks.TaskCancelled):
        await waiting
    assert (await read_row(waiting)).status == "CANCELLED"
    await asyncio.gather(*busy)


async def test_a_handle_learns_what_another_process_made_of_its_task(few_slots: None, runtime: Runtime) -> None:
    """The row is finished directly, as another process would do it."""
    busy = [bgtasks.fire(tasks.sleep, 1.0) for _ in range(2)]
    good, bad = bgtasks.fire(tasks.succeed), bgtasks.fire(tasks.fail)
    await wait_until(lambda: _count_ready(2))
    now = timezone.now()
    rows = BackgroundTask.objects
    assert await rows.filter(pk=good.id, status="READY").aupdate(status="SUCCESSFUL", result=[1], finished_at=now)
    assert await rows.filter(pk=bad.id, status="READY").aupdate(status="FAILED", error_type="E", error_message="m")
    assert await good.wait(timeout=10) == [1]
    with pytest.raises(bgtasks.TaskFailed, match="E: m"):
        await bad.wait(timeout=10)
    await asyncio.gather(*busy)
