"""Attacks that once succeeded, as regression tests."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import Group
from django.utils import timezone

import bgtasks
from bgtasks.models import BackgroundTask, Drain, Process
from bgtasks.process.state import Phase, ProcessState
from bgtasks.signals import task_finished
from bgtasks.status import Status
from tests.app import tasks
from tests.conftest import Runtime, read_row, wait_until
from tests.waiting import next_turn


def get_runner() -> Any:
    return apps.get_app_config("bgtasks").runtime


async def count(**conditions: Any) -> int:
    return await BackgroundTask.objects.filter(**conditions).acount()


async def assert_nothing_is_left(runtime: Runtime) -> None:
    """Wait until no slot is taken, no record is live and none is unwritten."""
    runner = get_runner()

    def is_quiet() -> bool:
        return not runner.registry.live and len(runner.slots) == runner.slots.count

    await wait_until(is_quiet)
    await wait_until(lambda: runner.journal.count_unwritten() == 0)


@pytest.mark.slow
async def test_more_than_the_journal_takes_in_at_once(runtime: Runtime) -> None:
    """The record at the limit of one intake is not dropped."""
    number = 23_456
    for _ in range(number):
        bgtasks.fire(tasks.succeed)

    async def are_all_there() -> bool:
        return await count(status="SUCCESSFUL") == number

    await wait_until(are_all_there, seconds=240)
    await assert_nothing_is_left(runtime)


async def test_objects_that_are_fired_while_the_claimer_looks(settings: Any, transactional_db: None) -> None:
    """The claimer reserves free slots for a moment. An object that finds none then starts once they are returned."""
    settings.BGTASKS = {**settings.BGTASKS, "POLL_INTERVAL": 0.001, "MAX_RUNNING": 2}
    runtime = Runtime()
    await runtime.start()
    for _ in range(300):
        assert await bgtasks.fire(asyncio.sleep(0, "done")).wait(timeout=10) == "done"
    await assert_nothing_is_left(runtime)
    await runtime.stop()


async def test_slots_between_threads(settings: Any, transactional_db: None) -> None:
    settings.BGTASKS = {**settings.BGTASKS, "MAX_RUNNING": 2}
    runtime = Runtime()
    await runtime.start()

    def fire_some() -> list[Any]:
        handles = []
        for number in range(60):
            handles.append(bgtasks.fire(asyncio.sleep(0, number), name="object"))
            handles.append(bgtasks.fire(tasks.succeed, number))
            if number % 7 == 0:
                handles[-2].cancel()
        return handles

    batches = await asyncio.gather(*[asyncio.to_thread(fire_some) for _ in range(4)])
    for handle in [handle for batch in batches for handle in batch]:
        row = await read_row(handle)
        assert row.status in ("SUCCESSFUL", "CANCELLED")
    await assert_nothing_is_left(runtime)
    await runtime.stop()


class Unloggable(logging.Handler):
    """Like a handler that writes log lines to the database, which raises on an event loop."""

    def emit(self, record: logging.LogRecord) -> None:
        Group.objects.create(name=record.getMessage())
        raise SystemExit("from a log handler")


@pytest.fixture
def unloggable() -> Iterator[None]:
    logger = logging.getLogger("bgtasks")
    handler = Unloggable()
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)


async def test_a_log_handler_that_raises(unloggable: None, runtime: Runtime, capfd: Any) -> None:
    handles = [bgtasks.fire(tasks.fail, "no") for _ in range(3)]
    for handle in handles:
        assert (await read_row(handle)).status == "FAILED"
    get_runner().journal.submit(lambda: 1 / 0)
    assert (await read_row(bgtasks.fire(tasks.succeed))).status == "SUCCESSFUL"
    await assert_nothing_is_left(runtime)
    await runtime.stop()
    assert "bgtasks could not log" in capfd.readouterr().err


async def test_a_log_handler_that_raises_at_the_start(unloggable: None, transactional_db: None, caplog: Any) -> None:
    runtime = Runtime()
    with caplog.at_level(logging.INFO, logger="bgtasks"):
        assert await runtime.start() == {"type": "lifespan.startup.complete"}
    assert await bgtasks.fire(tasks.succeed, 1) == 1
    await runtime.stop()


async def test_a_receiver_that_exits(runtime: Runtime) -> None:
    def leave(**kwargs: Any) -> None:
        raise SystemExit("from a receiver")

    task_finished.connect(leave)
    try:
        for _ in range(3):
            assert (await read_row(bgtasks.fire(tasks.succeed))).status == "SUCCESSFUL"
    finally:
        task_finished.disconnect(leave)


async def test_one_odd_row_does_not_strand_its_claim(runtime: Runtime) -> None:
    now = timezone.now()
    await BackgroundTask.objects.abulk_create(
        BackgroundTask(
            name="tests.app.tasks.succeed", args=[number], created_at=now, stuck_after=0 if number == 7 else None
        )
        for number in range(20)
    )

    async def are_all_over() -> bool:
        return await count(status__in=["SUCCESSFUL", "FAILED"]) == 20

    await wait_until(are_all_over)
    [odd] = [row async for row in BackgroundTask.objects.filter(status="FAILED")]
    assert odd.args == [7]
    assert "stuck_after" in odd.error_message
    await assert_nothing_is_left(runtime)


class Exits(dict[str, int]):
    def items(self) -> Any:
        raise SystemExit("from a result")


class Meta(type):
    @property
    def __module__(cls) -> str:  # type: ignore[override]
        raise KeyError("no module")


class NoModule(Exception, metaclass=Meta):
    pass


class NoTraceback(Exception):
    def with_traceback(self, trace: Any) -> Any:
        raise KeyboardInterrupt("from with_traceback")


class LoudText(str):
    def partition(self, separator: Any) -> Any:
        raise SystemExit("from a message")


class LoudMessage(Exception):
    def __str__(self) -> str:
        return LoudText("loud")


async def test_results_and_errors_that_fight_back(runtime: Runtime) -> None:
    async def give(value: Any) -> Any:
        return value

    async def throw(error: Any) -> None:
        raise error

    result = bgtasks.fire(give(Exits(a=1)), name="result")
    assert (await read_row(result)).status == "SUCCESSFUL"
    for error in (NoModule("a"), NoTraceback("b"), LoudMessage("c")):
        assert (await read_row(bgtasks.fire(throw(error), name="error"))).status == "FAILED"
    await assert_nothing_is_left(runtime)


async def test_a_task_that_is_cancelled_from_elsewhere_does_not_begin_for_ever(runtime: Runtime) -> None:
    started: list[int] = []

    @bgtasks.task(name="cancels_itself", on_lost="rerun")
    async def cancel_itself() -> None:
        started.append(1)
        current = asyncio.current_task()
        assert current is not None
        current.cancel()
        await asyncio.sleep(1)

    row = await read_row(bgtasks.fire(cancel_itself))
    assert (row.status, row.attempt, len(started)) == ("INTERRUPTED", 3, 3)


async def test_a_drain_on_a_loop_that_ends(runtime: Runtime) -> None:
    """A thread requests the drain on a loop of its own, and gives up. The server's drain goes on."""
    handle = bgtasks.fire(tasks.sleep, 0.5)

    def give_up() -> None:
        async def ask() -> None:
            async with asyncio.timeout(0.1):
                await bgtasks.drain()

        with pytest.raises(TimeoutError):
            asyncio.run(ask())

    await asyncio.to_thread(give_up)
    await runtime.stop()
    assert handle.status is Status.SUCCESSFUL
    assert await Drain.objects.acount() == 1
    assert (await Process.objects.aget()).state == "STOPPED"


async def test_an_object_that_is_awaited_elsewhere_is_refused_and_goes_on(runtime: Runtime) -> None:
    coroutine = asyncio.sleep(0.1, "theirs")
    theirs = asyncio.ensure_future(coroutine)
    await next_turn()
    with pytest.raises(TypeError, match="started already"):
        bgtasks.fire(coroutine)
    assert await theirs == "theirs"


async def test_children_that_are_fired_while_their_parents_are_cut_short(settings: Any, transactional_db: None) -> None:
    settings.BGTASKS = {**settings.BGTASKS, "DRAIN_TIMEOUT": 0.1, "CANCEL_GRACE": 0.5}
    runtime = Runtime()
    await runtime.start()

    async def clean_up() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            bgtasks.fire(tasks.sleep, 100)
            with pytest.raises(bgtasks.Draining):
                bgtasks.fire(asyncio.sleep(100), name="object")

    for _ in range(3):
        bgtasks.fire(clean_up(), name="parent")
    await next_turn()
    report = await bgtasks.drain()
    assert (report.cancelled_count, report.left_count) == (3, 0)
    await runtime.stop()
    assert await count(status="READY") == 3
    assert await count(status="INTERRUPTED") == 3


async def test_firing_from_threads_through_the_whole_shutdown(settings: Any, transactional_db: None) -> None:
    """Each handle that `fire` returned has its row; tasks that can no longer be recorded are refused."""
    # A busy machine may need many seconds to write the tasks of the last moment.
    settings.BGTASKS = {**settings.BGTASKS, "DRAIN_TIMEOUT": 0.2, "FLUSH_TIMEOUT": 20, "MAX_UNWRITTEN": 2000}
    runtime = Runtime()
    await runtime.start()
    handles: list[Any] = []
    is_over = threading.Event()

    def fire_on() -> None:
        while not is_over.wait(0.0005):
            try:
                handles.append(bgtasks.fire(tasks.succeed))
            except bgtasks.Draining:
                return

    threads = [threading.Thread(target=fire_on) for _ in range(3)]
    for thread in threads:
        thread.start()
    await wait_until(lambda: len(handles) >= 300)
    await runtime.stop()
    is_over.set()
    for thread in threads:
        thread.join()
    there = {pk async for pk in BackgroundTask.objects.values_list("pk", flat=True)}
    assert {handle.id for handle in handles} == there
    assert await count(status="RUNNING") == 0


class Named(str):
    def __str__(self) -> str:
        return "something else"


async def test_names_are_what_they_are(runtime: Runtime) -> None:
    async def work() -> None: ...

    work.__qualname__ = "odd \ud800 name"
    odd = bgtasks.fire(work)
    named = bgtasks.fire(asyncio.sleep(0), name=Named("this"))
    assert (await read_row(odd)).name.endswith("odd \\ud800 name")
    assert (await read_row(named)).name == "this"


class ReleasedSoon(ProcessState):
    """A process that another thread releases after a number of looks at its phase."""

    looks_left = 0

    @property  # type: ignore[override]
    def phase(self) -> Phase:
        self.looks_left -= 1
        return Phase.HELD if self.looks_left >= 0 else Phase.RUNNING


@pytest.mark.parametrize("looks", range(1, 6))
async def test_an_object_that_is_fired_during_a_release(looks: int, runtime: Runtime, monkeypatch: Any) -> None:
    """A process that goes from HELD to RUNNING is never taken for one that drains."""
    state = get_runner().state
    refusals = []
    with monkeypatch.context() as patch:
        patch.setattr(state, "__class__", ReleasedSoon)
        state.looks_left = looks
        try:
            bgtasks.fire(asyncio.sleep(0), name="object")
        except bgtasks.Draining as error:
            refusals.append(str(error))
    assert all("asked to start nothing" in refusal for refusal in refusals)
    await assert_nothing_is_left(runtime)


async def test_a_server_that_starts_while_a_thread_fires_its_first_task(monkeypatch: Any) -> None:
    """The process keeps the one runtime that the thread makes."""
    config: Any = apps.get_app_config("bgtasks")
    make = config._make_runner
    is_making, may_go_on = threading.Event(), threading.Event()
    made: list[Any] = []

    def make_slowly() -> Any:
        made.append(make())
        is_making.set()
        may_go_on.wait(10)
        return made[-1]

    monkeypatch.setattr("bgtasks.apps.is_under_test", lambda: False)
    monkeypatch.setattr(config, "_make_runner", make_slowly)
    thread = threading.Thread(target=lambda: config.runtime)
    thread.start()
    is_making.wait(10)
    config.begin_anew()  # As `go_live` does, when the server starts.
    may_go_on.set()
    thread.join()
    assert [config.runtime] == made
    assert config.registry is made[0].registry


async def test_a_caller_that_cannot_be_woken_when_its_task_is_taken(runtime: Runtime) -> None:
    """As on a loop that is closed in that moment: the process goes on under its new id all the same."""

    def wake() -> None:
        raise RuntimeError("Event loop is closed")

    runner = get_runner()
    old_id, handle = runner.state.id, bgtasks.fire(tasks.sleep, 3600)

    async def is_lost() -> bool:
        return bool(await BackgroundTask.objects.filter(pk=handle.id, status="RUNNING").aupdate(status="LOST"))

    await wait_until(is_lost)
    handle._record.when_finished(wake)
    await Process.objects.filter(pk=old_id).aupdate(state="DEAD")
    await wait_until(lambda: runner.state.id != old_id)

    row = await read_row(bgtasks.fire(tasks.succeed))
    assert (row.status, row.process) == ("SUCCESSFUL", runner.state.id)


async def test_a_hold_that_comes_while_the_process_drains(settings: Any, transactional_db: None) -> None:
    """A request of `drain_tasks` does not keep the objects that the drain waits for from their start."""
    settings.BGTASKS = {**settings.BGTASKS, "MAX_RUNNING": 1, "DRAIN_TIMEOUT": 30}
    runtime = Runtime()
    await runtime.start()
    may_end = asyncio.Event()
    bgtasks.fire(may_end.wait(), name="running")
    bgtasks.fire(asyncio.sleep(0), name="waiting")

    drain = asyncio.create_task(bgtasks.drain())
    await asyncio.sleep(0)  # The drain has begun.
    get_runner().state.hold()
    may_end.set()
    report = await drain

    assert (report.finished_count, report.cancelled_count, report.left_count) == (2, 0, 0)
    await runtime.stop()
