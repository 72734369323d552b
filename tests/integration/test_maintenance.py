"""The services on the journal's thread: requests in rows, samples of the lines at which tasks await, pruning."""

from __future__ import annotations

import asyncio
import time
from contextvars import Context
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone

import bgtasks
from bgtasks import transitions
from bgtasks.api import get_runner
from bgtasks.conf import get_settings
from bgtasks.maintenance import pruner
from bgtasks.maintenance.pruner import Retention
from bgtasks.maintenance.sampler import Sampler, Sweep
from bgtasks.models import BackgroundTask, Drain, Process
from bgtasks.process.record import Record
from bgtasks.reports.stuck import Finder
from bgtasks.status import Status
from tests.app import tasks
from tests.conftest import Runtime, read_row, wait_until
from tests.waiting import astays, next_turn


async def cancel_from_elsewhere(handle: Any) -> bool:
    return await sync_to_async(transitions.cancel)("default", handle.id, "a test", "asked by a test")


async def is_recorded_as(handle: Any, status: Status) -> bool:
    return await BackgroundTask.objects.filter(pk=handle.id, status=status).aexists()


def own_row() -> Any:
    return Process.objects.filter(pk=get_runner().state.id)


async def is_nothing_running() -> bool:
    return not await BackgroundTask.objects.filter(status="RUNNING").aexists()


async def ask_to_drain() -> None:
    await wait_until(lambda: own_row().aexists())  # After the first beat.
    await own_row().aupdate(drain_requested_at=timezone.now(), drain_acknowledged_at=None)
    await wait_until(lambda: own_row().filter(drain_acknowledged_at__isnull=False).aexists())


async def undo_drain() -> None:
    await own_row().aupdate(drain_requested_at=None)
    await wait_until(own_row().filter(drain_acknowledged_at=None, state="ALIVE").aexists)


# Cancelling by row.


async def test_a_running_task_is_cancelled_by_its_row(runtime: Runtime) -> None:
    handle = bgtasks.fire(tasks.sleep, 3600)
    await wait_until(lambda: is_recorded_as(handle, Status.RUNNING))

    assert not await cancel_from_elsewhere(handle)  # Its process cancels it later.

    with pytest.raises(bgtasks.TaskCancelled):
        await handle.wait(timeout=20)
    row = await read_row(handle)
    assert (row.status, row.transitions[-1]["why"]) == ("CANCELLED", "cancelled on request")


async def test_a_task_that_cleans_up_is_cancelled_once(runtime: Runtime) -> None:
    cancelled = 0

    async def work() -> None:
        nonlocal cancelled
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled += 1
            await asyncio.sleep(0.5)  # Ten times POLL_INTERVAL: the process finds the request again and again.
            raise

    handle = bgtasks.fire(work())
    await wait_until(lambda: is_recorded_as(handle, Status.RUNNING))
    await cancel_from_elsewhere(handle)
    with pytest.raises(bgtasks.TaskCancelled):
        await handle.wait(timeout=20)

    assert cancelled == 1


async def test_a_waiting_row_is_cancelled_at_once(transactional_db: None) -> None:
    row = await BackgroundTask.objects.acreate(name="nobody knows it", created_at=timezone.now())

    assert await cancel_from_elsewhere(row)

    await row.arefresh_from_db()
    assert (row.status, row.transitions[-1]["by"]) == ("CANCELLED", "a test")
    assert row.finished_at is not None


async def test_a_coroutine_object_that_waits_is_cancelled_by_its_process(settings: Any, transactional_db: None) -> None:
    """Its process has the object in memory, so the row alone would not prevent the start."""
    settings.BGTASKS = {**settings.BGTASKS, "MAX_RUNNING": 1}
    runtime = Runtime()
    await runtime.start()
    busy = bgtasks.fire(tasks.sleep, 3600)
    handle = bgtasks.fire(asyncio.sleep(0), name="an object")
    await wait_until(lambda: is_recorded_as(handle, Status.READY))

    assert not await cancel_from_elsewhere(handle)

    with pytest.raises(bgtasks.TaskCancelled):
        await handle.wait(timeout=20)
    assert (await read_row(handle)).status == "CANCELLED"
    busy.cancel()
    await runtime.stop()


async def test_cancelling_what_is_over_changes_nothing(runtime: Runtime) -> None:
    handle = bgtasks.fire(tasks.succeed)
    row = await read_row(handle)

    assert not await cancel_from_elsewhere(handle)

    after = await BackgroundTask.objects.aget(pk=handle.id)
    assert (after.status, after.transitions, after.cancel_requested_at) == ("SUCCESSFUL", row.transitions, None)


# Draining by row.


async def test_a_process_that_was_asked_to_drain_starts_nothing(runtime: Runtime) -> None:
    running = bgtasks.fire(tasks.sleep, 1.5)
    await wait_until(lambda: is_recorded_as(running, Status.RUNNING))
    await ask_to_drain()

    waiting = [bgtasks.fire(tasks.succeed, 1), await bgtasks.afire(tasks.succeed, 2)]
    elsewhere = await BackgroundTask.objects.acreate(name="tests.app.tasks.succeed", created_at=timezone.now())
    with pytest.raises(bgtasks.Draining, match="asked to start nothing"):
        bgtasks.fire(asyncio.sleep(0), name="an object")
    with pytest.raises(bgtasks.Draining):
        await bgtasks.afire(asyncio.sleep(0), name="an object")

    assert await running.wait(timeout=20) == 1.5  # The running task goes on.
    await wait_until(own_row().filter(running=0, state="DRAINING").aexists)  # A beat later.
    ready = [row.pk async for row in BackgroundTask.objects.filter(status="READY", process=None)]
    assert set(ready) == {elsewhere.pk, *(handle.id for handle in waiting)}

    await undo_drain()

    assert [await handle.wait(timeout=20) for handle in waiting] == [1, 2]
    await wait_until(BackgroundTask.objects.filter(pk=elsewhere.pk, status="SUCCESSFUL").aexists)


async def test_what_a_running_task_fires_meanwhile_waits(runtime: Runtime) -> None:
    go_on = asyncio.Event()

    async def fire_child() -> Any:
        await go_on.wait()
        return str(bgtasks.fire(tasks.succeed, 1).id)

    parent = bgtasks.fire(fire_child())
    await ask_to_drain()
    go_on.set()
    child = await parent.wait(timeout=20)
    await wait_until(BackgroundTask.objects.filter(pk=child, status="READY", process=None).aexists)

    await undo_drain()

    await wait_until(BackgroundTask.objects.filter(pk=child, status="SUCCESSFUL").aexists)


async def test_an_object_that_waits_for_a_slot_goes_on_waiting(settings: Any, transactional_db: None) -> None:
    settings.BGTASKS = {**settings.BGTASKS, "MAX_RUNNING": 1}
    runtime = Runtime()
    await runtime.start()
    gate = asyncio.Event()
    busy = bgtasks.fire(gate.wait())
    waiting = bgtasks.fire(asyncio.sleep(0, 5), name="an object")
    await ask_to_drain()
    gate.set()
    await busy.wait(timeout=20)
    await astays(lambda: waiting.status is Status.READY, 0.2, why="its slot is free, so it would start at once")

    await undo_drain()

    assert await waiting.wait(timeout=20) == 5
    await runtime.stop()


async def test_a_shutdown_after_a_drain_by_row_starts_the_objects_that_wait(
    settings: Any, transactional_db: None
) -> None:
    settings.BGTASKS = {**settings.BGTASKS, "MAX_RUNNING": 1}
    runtime = Runtime()
    await runtime.start()
    gate = asyncio.Event()
    busy = bgtasks.fire(gate.wait())
    waiting = bgtasks.fire(asyncio.sleep(0, 5), name="an object")
    await ask_to_drain()
    gate.set()
    await busy.wait(timeout=20)

    await runtime.stop()

    assert waiting.status is Status.SUCCESSFUL


async def test_the_acknowledgement_comes_after_the_last_start(runtime: Runtime) -> None:
    """Tasks are fired as fast as possible. A task that is not RUNNING at the acknowledgement does not start."""
    is_over = False
    handles = []

    async def fire_all_the_time() -> None:
        while not is_over:
            handles.extend(bgtasks.fire(tasks.sleep, 0.01) for _ in range(5))
            await asyncio.sleep(0.002)

    firing = asyncio.create_task(fire_all_the_time())
    for _ in range(5):
        count = len(handles) + 100
        await wait_until(lambda count=count: len(handles) >= count)
        await ask_to_drain()
        acknowledged_at = (await own_row().aget()).drain_acknowledged_at
        late = BackgroundTask.objects.filter(started_at__gte=acknowledged_at)

        async def are_none_late(late: Any = late) -> bool:
            return not await late.aexists()

        await astays(are_none_late, 0.2, why="the journal would write a start within a few milliseconds")
        await wait_until(is_nothing_running)
        await undo_drain()
    is_over = True
    await firing
    await asyncio.gather(*[handle.wait(timeout=60) for handle in handles])


async def test_a_new_row_of_the_process_inherits_the_request(runtime: Runtime) -> None:
    """A process gets a new row after it was declared dead."""
    await ask_to_drain()
    journal = get_runner().journal

    def change_id() -> None:
        get_runner().state.id = bgtasks.uuid7.uuid7()
        journal.heartbeat.hasten()  # The beat finds no row with this id, so the process begins anew.

    journal.submit(change_id)
    await wait_until(lambda: own_row().filter(drain_acknowledged_at__isnull=False).aexists())
    assert get_runner().state.is_held


# The lines at which tasks await.


async def place_of(handle: Any) -> Any:
    return (await BackgroundTask.objects.aget(pk=handle.id)).await_place


async def wait_for_place(handle: Any, function: str) -> Any:
    async def is_there() -> bool:
        place = await place_of(handle) if await is_recorded_as(handle, Status.RUNNING) else None
        return place is not None and place["function"] == function

    await wait_until(is_there)
    return await place_of(handle)


def line_of(text: str) -> int:
    lines = Path(tasks.__file__).read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.strip() == text)


@pytest.fixture
def frequent(settings: Any) -> None:
    settings.BGTASKS = {**settings.BGTASKS, "HEARTBEAT": 0.1, "MAX_RUNNING": 20_000}


async def test_the_place_of_a_long_task_is_in_its_row(frequent: None, runtime: Runtime) -> None:
    handle = bgtasks.fire(tasks.wait_deep_down, 3600)

    place = await wait_for_place(handle, "_numbers")

    assert place["file"] == tasks.__file__
    assert place["line"] == line_of("yield 1") - 1

    async def is_unchanged() -> bool:
        return await place_of(handle) == place  # Including the moment of its first sighting.

    await astays(is_unchanged, 0.5, why="five times HEARTBEAT, the time between two samples")
    handle.cancel()


async def test_a_task_that_goes_on_has_a_new_place(frequent: None, runtime: Runtime) -> None:
    go_on = asyncio.Event()

    async def work() -> None:
        await go_on.wait()
        await second()

    async def second() -> None:
        await asyncio.sleep(3600)

    handle = bgtasks.fire(work())
    first = await wait_for_place(handle, work.__qualname__)
    go_on.set()

    place = await wait_for_place(handle, second.__qualname__)

    assert place["since"] > first["since"]
    handle.cancel()


async def test_the_place_of_a_plain_function_is_that_of_its_thread(frequent: None, runtime: Runtime) -> None:
    handle = bgtasks.fire(tasks.sleep_in_thread, 2)

    place = await wait_for_place(handle, "sleep_in_thread")

    assert place["line"] == line_of("time.sleep(seconds)")
    await handle


async def test_a_place_that_is_seen_before_its_row_is_there(
    frequent: None, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal is late, as on a slow machine. The place is written once the row exists."""
    journal = get_runner().journal
    [sampler] = [service for service in journal.services if isinstance(service, Sampler)]
    with monkeypatch.context() as patch:
        patch.setattr(journal, "_choose", list)
        handle = bgtasks.fire(tasks.wait_deep_down, 3600)
        await wait_until(lambda: handle.id.int in sampler._seen)
        why = "three times HEARTBEAT, the time between two samples"
        await astays(lambda: handle.id.int in sampler._seen, 0.3, why=why)
    place = await wait_for_place(handle, "_numbers")
    assert place["line"] == line_of("yield 1") - 1
    handle.cancel()


async def test_a_young_task_is_not_looked_at(runtime: Runtime) -> None:
    handle = bgtasks.fire(tasks.sleep, 0.4)
    await handle
    assert (await read_row(handle)).await_place is None


async def test_the_line_that_blocks_the_loop_is_found(frequent: None, runtime: Runtime) -> None:
    quick = bgtasks.fire(tasks.sleep, 3600)
    await wait_for_place(quick, "sleep")  # By then the loop has answered once.
    handle = bgtasks.fire(tasks.block, 1.5)
    await handle

    row = await read_row(handle)

    assert row.await_place["function"] == "block"
    quick.cancel()


async def test_ten_thousand_tasks_are_looked_at_in_slices(runtime: Runtime) -> None:
    """No slice takes longer than a few milliseconds, however many tasks there are."""
    stop = asyncio.Event()

    async def wait() -> None:
        await stop.wait()

    coroutines = [asyncio.create_task(wait()) for _ in range(10_000)]
    await next_turn()
    records = []
    for number, task in enumerate(coroutines):
        record = Record(number, "a record", None, (), {}, task.get_loop(), Context(), (Status.RUNNING, 0.0, 1, ""))
        record.asyncio_task = task
        records.append(record)
    is_over = asyncio.Event()
    sweep = Sweep(asyncio.get_running_loop(), records, lambda sweep: is_over.set())
    turns = 0

    sweep.begin()
    while not is_over.is_set():
        turns += 1
        await asyncio.sleep(0)

    assert len(sweep.found) == 10_000
    assert {place.function for _, place in sweep.found.values()} == {wait.__qualname__}
    assert sweep.slice_count > 10
    assert turns > sweep.slice_count  # Other callbacks ran between two slices.
    stop.set()
    await asyncio.gather(*coroutines)


# Stuck tasks.


async def find_stuck(**options: Any) -> dict[Any, Any]:
    finder = Finder("default", get_settings(), timezone.now(), **options)
    return {task.id: task for task in await sync_to_async(finder.find)()}


def long_ago(seconds: float = 3600) -> Any:
    return timezone.now() - timedelta(seconds=seconds)


async def make_process(**values: Any) -> Process:
    now = timezone.now()
    return await Process.objects.acreate(
        **{"host": "here", "pid": 1, "started_at": long_ago(), "beat_at": now, "loop_seen_at": now, **values}
    )


async def make_task(**values: Any) -> BackgroundTask:
    return await BackgroundTask.objects.acreate(**{"name": "any", "created_at": long_ago(), **values})


async def make_running(process: Process, **values: Any) -> BackgroundTask:
    return await make_task(**{"status": "RUNNING", "started_at": long_ago(), "process": process.pk, **values})


@pytest.mark.parametrize(
    ("process", "reason"),
    [
        ({"beat_at": long_ago(100)}, "has not beaten for 100 s"),
        ({"state": "DEAD"}, "has ended (DEAD)"),
        ({"state": "STOPPED"}, "has ended (STOPPED)"),
    ],
    ids=["silent", "dead", "stopped"],
)
async def test_a_task_of_a_process_that_is_gone_is_stuck(
    transactional_db: None, process: dict[str, Any], reason: str
) -> None:
    if "beat_at" in process:
        process = {"beat_at": long_ago(100)}  # Relative to the test, not to its collection.
    owner = await make_process(**process)
    row = await make_running(owner, started_at=timezone.now())
    waiting_object = await make_task(process=owner.pk, created_at=timezone.now())

    found = await find_stuck()

    assert set(found) == {row.pk, waiting_object.pk}
    assert reason in found[row.pk].reason
    assert found[row.pk].kind == "process"


async def test_a_task_without_a_known_process_is_stuck(transactional_db: None) -> None:
    row = await make_task(status="RUNNING", started_at=timezone.now(), process=bgtasks.uuid7.uuid7())
    assert (await find_stuck())[row.pk].reason == "its process is not known"


async def test_a_task_that_runs_past_its_stuck_after(transactional_db: None) -> None:
    owner = await make_process()
    place = {"file": "a.py", "line": 5, "function": "f", "since": timezone.now().isoformat()}
    row = await make_running(owner, stuck_after=60, await_place=place)
    await make_running(owner, stuck_after=7200)
    await make_running(owner)  # Without a stuck_after.

    found = await find_stuck()

    assert set(found) == {row.pk}
    stuck = found[row.pk]
    assert (stuck.kind, stuck.reason, stuck.await_place) == ("running", "it runs for longer than 60 s", place)
    assert 3600 <= stuck.age < 3700
    assert stuck.loop_blocked is None


async def test_a_task_that_runs_past_the_setting(settings: Any, transactional_db: None) -> None:
    settings.BGTASKS = {**settings.BGTASKS, "STUCK_AFTER": 600}
    row = await make_running(await make_process())
    assert set(await find_stuck()) == {row.pk}


async def test_the_place_of_an_earlier_attempt_is_not_shown(transactional_db: None) -> None:
    place = {"file": "a.py", "line": 5, "function": "f", "since": long_ago(7200).isoformat()}
    row = await make_running(await make_process(), stuck_after=60, await_place=place)
    assert (await find_stuck())[row.pk].await_place is None


async def test_a_blocked_loop_is_reported(transactional_db: None) -> None:
    owner = await make_process(blocked_since=long_ago(30))
    row = await make_running(owner, stuck_after=60)
    assert (await find_stuck())[row.pk].loop_blocked == pytest.approx(30, abs=1)


async def test_a_task_that_waits_for_too_long(transactional_db: None) -> None:
    row = await make_task()
    await make_task(created_at=timezone.now())
    await make_task(run_after=timezone.now() + timedelta(hours=1))
    await make_task(run_after=timezone.now() - timedelta(seconds=1))
    back = [{"status": "READY", "at": timezone.now().isoformat(), "attempt": 1, "by": "x", "why": "again"}]
    await make_task(transitions=back)

    found = await find_stuck()

    assert set(found) == {row.pk}
    assert found[row.pk].reason == "it waits for longer than 300 s"


async def test_older_than_takes_the_place_of_the_other_bounds(transactional_db: None) -> None:
    owner = await make_process()
    running = await make_running(owner, stuck_after=7200)
    waiting = await make_task(created_at=long_ago(100))
    await make_task(created_at=long_ago(10))

    assert set(await find_stuck(older_than=50)) == {running.pk, waiting.pk}
    assert await find_stuck(older_than=4000) == {}


# Pruning.

DAY = 86400


async def make_finished(status: str, days: float) -> BackgroundTask:
    """Make a task that was fired and finished so many days ago."""
    fired = time.time_ns() - int(days * DAY * 1e9)
    id_ = UUID(int=bgtasks.uuid7.uuid7_int(fired))
    return await make_task(id=id_, status=status, created_at=long_ago(days * DAY), finished_at=long_ago(days * DAY))


def make_retention() -> Retention:
    return Retention("default", get_settings(), timezone.now())


async def prune(size: int) -> list[dict[str, int]]:
    return [dict(batch) for batch in await sync_to_async(lambda: list(make_retention().prune(size)))()]


async def test_each_status_has_its_retention(transactional_db: None) -> None:
    statuses = ["SUCCESSFUL", "CANCELLED", "FAILED", "INTERRUPTED", "LOST"]
    due = {
        (await make_finished(status, days)).pk
        for status, days in zip(statuses, [14.1, 14.1, 90.1, 90.1, 90.1], strict=True)
    }
    for status, days in zip(statuses, [13.9, 13.9, 89.9, 89.9, 89.9], strict=True):
        await make_finished(status, days)
    live = [await make_finished(status, 1000) for status in ("READY", "RUNNING")]
    recently = await make_finished("SUCCESSFUL", 30)  # Fired long ago, finished yesterday.
    await BackgroundTask.objects.filter(pk=recently.pk).aupdate(finished_at=long_ago(DAY))
    counted = await sync_to_async(lambda: dict(make_retention().count()))()

    pruned = await prune(10)

    assert counted == dict.fromkeys(statuses, 1)
    assert {kind: number for batch in pruned for kind, number in batch.items()} == counted
    left = {row.pk async for row in BackgroundTask.objects.all()}
    assert not left & due
    assert {recently.pk, *(row.pk for row in live)} < left
    assert len(left) == 8


async def test_pruning_goes_in_batches(transactional_db: None) -> None:
    for _ in range(7):
        await make_finished("SUCCESSFUL", 20)

    assert await prune(3) == [{"SUCCESSFUL": 3}, {"SUCCESSFUL": 3}, {"SUCCESSFUL": 1}]
    assert await prune(3) == []


async def test_processes_and_drains_are_pruned(transactional_db: None) -> None:
    old = {"id": UUID(int=bgtasks.uuid7.uuid7_int(time.time_ns() - 100 * DAY * 10**9)), "beat_at": long_ago(100 * DAY)}
    await make_process(**old, state="DEAD")
    await make_process(state="STOPPED", stopped_at=long_ago(DAY))
    living = await make_process(**{**old, "id": UUID(int=old["id"].int + 1)})  # Silent for long, but not declared dead.
    drain = {"process": living.pk, "asked_by": "x", "seconds": 1, "running_at_start": 0, "finished_count": 0}
    await Drain.objects.acreate(**drain, id=old["id"], started_at=long_ago(100 * DAY), cancelled_count=0, left_count=0)
    await Drain.objects.acreate(**drain, started_at=timezone.now(), cancelled_count=0, left_count=0)

    assert await prune(10) == [{"processes": 1}, {"drains": 1}]
    assert await Process.objects.acount() == 2
    assert await Drain.objects.acount() == 1


async def test_a_running_process_prunes_by_itself(monkeypatch: pytest.MonkeyPatch, transactional_db: None) -> None:
    monkeypatch.setattr(pruner, "FIRST", (0.1, 0.2))
    monkeypatch.setattr(pruner, "PAUSE", 0.05)
    monkeypatch.setattr(pruner, "BATCH", 2)
    for _ in range(5):
        await make_finished("SUCCESSFUL", 20)
    young = await make_finished("SUCCESSFUL", 1)
    runtime = Runtime()
    await runtime.start()

    async def is_pruned() -> bool:
        return [row.pk async for row in BackgroundTask.objects.all()] == [young.pk]

    await wait_until(is_pruned)
    await runtime.stop()
