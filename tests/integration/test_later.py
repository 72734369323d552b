"""Tasks fired for later: their origin, their moment, their order."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import transaction

import bgtasks
from bgtasks import transitions
from bgtasks.api import get_runner
from bgtasks.models import BackgroundTask, Process
from bgtasks.status import Status
from tests.app import tasks
from tests.conftest import Runtime, read_row, wait_until
from tests.waiting import astays

SOON = timedelta(seconds=0.3)
HOUR = timedelta(hours=1)


async def find(handle: Any) -> BackgroundTask | None:
    return await BackgroundTask.objects.filter(pk=handle.id).afirst()


async def read(handle: Any) -> BackgroundTask:
    await wait_until(lambda: find(handle))
    row = await find(handle)
    assert row is not None
    return row


def assert_waits(row: BackgroundTask, moment: datetime) -> None:
    assert (row.status, row.process, row.attempt, row.started_at) == ("READY", None, 0, None)
    assert abs(row.run_after - moment) < timedelta(minutes=1)
    assert [entry["why"] for entry in row.transitions] == ["fired"]


@pytest.mark.parametrize("afire", [False, True], ids=["fire", "afire"])
@pytest.mark.parametrize(
    "moment",
    [lambda: HOUR, lambda: datetime.now(UTC) + HOUR, lambda: datetime.now(timezone(timedelta(hours=5.5))) + HOUR],
    ids=["timedelta", "datetime", "elsewhere"],
)
async def test_it_waits_in_the_table_and_in_no_process(runtime: Runtime, afire: bool, moment: Any) -> None:
    task = tasks.succeed.using(run_after=moment(), queue="slow", priority=7)

    handle = await bgtasks.afire(task, 1) if afire else bgtasks.fire(task, 1)

    row = await read(handle)
    assert_waits(row, datetime.now(UTC) + HOUR)
    assert (row.queue_name, row.priority) == ("slow", 7)
    assert row.origin is not None  # It counts as fired.
    await wait_until(lambda: bgtasks.pending_task_count() == 0)
    assert handle.status is Status.READY


@pytest.mark.parametrize("afire", [False, True], ids=["fire", "afire"])
async def test_it_starts_when_its_moment_has_come_and_not_before(runtime: Runtime, afire: bool) -> None:
    fired = datetime.now(UTC)
    task = tasks.succeed.using(run_after=SOON)

    handle = await bgtasks.afire(task, 5) if afire else bgtasks.fire(task, 5)

    assert await handle.wait(20) == 5
    row = await read_row(handle)
    assert row.started_at - fired >= SOON
    assert [entry["status"] for entry in row.transitions] == ["READY", "RUNNING", "SUCCESSFUL"]


@pytest.mark.parametrize(
    "past",
    [timedelta(0), -HOUR, timedelta.min, datetime(1999, 1, 1, tzinfo=UTC), datetime.min.replace(tzinfo=UTC)],
    ids=["zero", "an hour ago", "the longest ago", "1999", "the first moment"],
)
async def test_the_past_means_now(runtime: Runtime, past: Any) -> None:
    handle = bgtasks.fire(tasks.succeed.using(run_after=past), 5)

    assert await handle.wait(20) == 5
    row = await read_row(handle)
    assert row.run_after is None
    assert row.transitions[0]["status"] == "RUNNING"  # It did not wait for a claim.


async def test_what_is_declared_holds_for_each_firing(runtime: Runtime) -> None:
    @bgtasks.task(name="later", run_after=HOUR)
    async def later() -> str:
        bgtasks.current().progress(1, 2)
        return "now"

    assert_waits(await read(bgtasks.fire(later)), datetime.now(UTC) + HOUR)
    handle = bgtasks.fire(later.using(run_after=None))
    assert await handle.wait(20) == "now"
    assert (await read_row(handle)).run_after is None


async def test_naive_moments_are_refused_where_they_are_given() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        tasks.succeed.using(run_after=datetime.now())  # noqa: DTZ005, RUF100  # The missing time zone is the point.


def fire_in_a_transaction(fail: bool) -> Any:
    with transaction.atomic():
        handle = bgtasks.fire(tasks.succeed.using(run_after=HOUR, priority=3), 1)
        row = BackgroundTask.objects.get(pk=handle.id)  # Visible in the transaction itself.
        assert (row.status, row.priority, row.process) == ("READY", 3, None)
        assert row.run_after is not None
        if fail:
            raise KeyError
    return handle


async def test_in_a_transaction_of_sync_code(runtime: Runtime) -> None:
    handle = await sync_to_async(fire_in_a_transaction)(False)

    assert_waits(await read(handle), datetime.now(UTC) + HOUR)
    with pytest.raises(KeyError):
        await sync_to_async(fire_in_a_transaction)(True)
    assert await BackgroundTask.objects.acount() == 1


async def test_soon_in_a_transaction_of_sync_code(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that claims no rows of others starts it too."""
    monkeypatch.setattr(get_runner().state, "is_server", False)

    def fire() -> Any:
        with transaction.atomic():
            return [bgtasks.fire(tasks.succeed.using(run_after=SOON * number), number) for number in (1, 2, 3)]

    handles = await sync_to_async(fire)()

    assert await asyncio.wait_for(asyncio.gather(*handles), 20) == [1, 2, 3]


def test_in_a_process_without_a_loop_of_its_own(transactional_db: None, bgtasks_live: None) -> None:
    """A command or a script may wait for as long as it likes. The process starts each task at its moment."""
    soon = [bgtasks.fire(tasks.succeed.using(run_after=SOON * number), number) for number in (1, 3, 2)]
    later = bgtasks.fire(tasks.succeed.using(run_after=HOUR))

    assert [handle.result(20) for handle in soon] == [1, 3, 2]
    assert later.status is Status.READY
    with pytest.raises(TimeoutError):
        later.result(0.05)


async def test_a_hold_and_a_drain_leave_it_alone(runtime: Runtime) -> None:
    process = Process.objects.filter(pk=get_runner().state.id)
    await wait_until(process.aexists)
    await process.aupdate(drain_requested_at=datetime.now(UTC))  # As `drain_tasks` does.
    await wait_until(lambda: get_runner().state.is_held)
    soon = bgtasks.fire(tasks.succeed.using(run_after=SOON), 1)
    later = bgtasks.fire(tasks.succeed.using(run_after=HOUR), 2)
    await wait_until(lambda: find(later))
    is_ready = BackgroundTask.objects.filter(pk=soon.id, status="READY").aexists
    await wait_until(is_ready)
    await astays(is_ready, 0.5, why="its moment comes after 0.3 s, and a claim 0.05 s later")
    await process.aupdate(drain_requested_at=None)
    assert await soon.wait(20) == 1

    report = await bgtasks.drain(5)

    assert (report.left_count, report.cancelled_count, report.is_written) == (0, 0, True)
    assert_waits(await read(later), datetime.now(UTC) + HOUR)


async def test_fired_while_draining_it_is_recorded_for_others(runtime: Runtime) -> None:
    fired: list[Any] = []

    @bgtasks.task(name="fires later")
    async def fires_later() -> None:
        while not bgtasks.current().draining:
            await asyncio.sleep(0.01)
        fired.append(bgtasks.fire(tasks.succeed.using(run_after=SOON)))

    handle = bgtasks.fire(fires_later)
    await wait_until(lambda: handle.status is Status.RUNNING)
    report = await bgtasks.drain(10)

    assert report.is_written
    assert (await read(fired[0])).status == "READY"


@pytest.mark.parametrize("is_written", [False, True])
async def test_cancel_before_its_moment(runtime: Runtime, is_written: bool) -> None:
    handle = bgtasks.fire(tasks.succeed.using(run_after=HOUR))
    if is_written:
        await read(handle)

    assert handle.cancel()

    with pytest.raises(bgtasks.TaskCancelled):
        await handle.wait(20)
    assert (await read_row(handle)).status == "CANCELLED"


async def test_cancel_from_elsewhere_before_its_moment(runtime: Runtime) -> None:
    handle = bgtasks.fire(tasks.succeed.using(run_after=HOUR))
    await read(handle)

    assert await sync_to_async(transitions.cancel)("default", handle.id, "user ada", "no longer")

    with pytest.raises(bgtasks.TaskCancelled):
        await handle.wait(20)


async def test_a_process_for_one_queue_leaves_the_others(runtime: Runtime) -> None:
    get_runner().state.queues = ("mine",)  # As `run_tasks --queue mine` has it.
    task = tasks.succeed.using(run_after=timedelta(seconds=0.05))

    other = bgtasks.fire(task.using(queue="other"), 1)
    mine = bgtasks.fire(task.using(queue="mine"), 2)

    assert await mine.wait(20) == 2
    assert (await read(other)).status == "READY"


async def test_when_due_the_higher_priority_comes_first(settings: Any, transactional_db: None) -> None:
    settings.BGTASKS = {**settings.BGTASKS, "MAX_RUNNING": 1}
    runtime = Runtime()
    await runtime.start()
    moment = datetime.now(UTC) + SOON

    handles = {
        priority: bgtasks.fire(tasks.sleep.using(run_after=moment, priority=priority), 0.02) for priority in (-5, 0, 50)
    }

    rows = [await read_row(handle) for handle in handles.values()]
    assert [row.priority for row in sorted(rows, key=lambda row: row.started_at)] == [50, 0, -5]
    await runtime.stop()


async def test_ten_thousand_at_once(runtime: Runtime) -> None:
    """None starts before its moment, none is forgotten, none starts twice."""
    started: list[int] = []
    moment = datetime.now(UTC) + timedelta(seconds=4)
    early: list[int] = []

    @bgtasks.task(name="one of many")
    async def one_of_many(number: int) -> None:
        if datetime.now(UTC) < moment:
            early.append(number)
        started.append(number)

    task = one_of_many.using(run_after=moment)
    handles = [bgtasks.fire(task, number) for number in range(10_000)]

    async with asyncio.timeout(100):
        await asyncio.gather(*handles)
    assert sorted(started) == list(range(10_000))
    assert early == []
    await wait_until(lambda: is_count(10_000), seconds=240)


async def is_count(number: int) -> bool:
    return await BackgroundTask.objects.filter(status="SUCCESSFUL").acount() == number
