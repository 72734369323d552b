"""A process that was declared dead, and its own tasks when it continues."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import math
import threading
import time
from typing import Any

import pytest
from django.apps import apps
from django.db import OperationalError, connection
from django.db.models import Sum
from django.utils import timezone

import bgtasks
from bgtasks import transitions
from bgtasks.api import get_runner
from bgtasks.journal.statements import Wanted, statements_for
from bgtasks.journal.writer import Writer
from bgtasks.maintenance.claimer import Claimer
from bgtasks.maintenance.death_watch import DeathWatch
from bgtasks.maintenance.rescue import Look, Rescuer
from bgtasks.models import BackgroundTask, Process
from bgtasks.process.record import Record
from bgtasks.runtime.limits import Group
from bgtasks.signals import task_finished
from bgtasks.status import Status
from bgtasks.uuid7 import uuid7
from tests.app import tasks
from tests.conftest import Runtime, read_row, wait_until
from tests.waiting import astays


def get_journal() -> Any:
    return apps.get_app_config("bgtasks").runtime.journal


async def wait_until_running(*handles: Any) -> None:
    ids = [handle.id for handle in handles]

    async def are_running() -> bool:
        return await BackgroundTask.objects.filter(pk__in=ids, status="RUNNING").acount() == len(ids)

    await wait_until(are_running)


async def declare_dead() -> None:
    await Process.objects.filter(pk=get_runner().state.id).aupdate(state="DEAD")


async def test_what_was_taken_is_cancelled_and_the_rest_goes_on(runtime: Runtime, caplog: Any) -> None:
    taken, kept = bgtasks.fire(tasks.sleep, 3600), bgtasks.fire(tasks.sleep, 1.5)
    again = bgtasks.fire(tasks.sleep_and_rerun, 3600)
    await wait_until_running(taken, kept, again)
    before = get_runner().state.id
    await BackgroundTask.objects.filter(pk=taken.id).aupdate(status="LOST")
    await BackgroundTask.objects.filter(pk=again.id).aupdate(status="READY", process=uuid7())
    await declare_dead()

    await wait_until(lambda: get_runner().state.id != before)
    with pytest.raises(bgtasks.TaskLost, match="was taken for dead"):
        await taken
    await wait_until(lambda: again.status is Status.READY)  # As far as this process knows, any process may claim it.
    assert await kept == 1.5
    row = await read_row(kept)
    assert row.process == get_runner().state.id
    assert (await BackgroundTask.objects.aget(pk=taken.id)).status == "LOST"
    await wait_until(lambda: bgtasks.pending_task_count() == 0)
    runner = apps.get_app_config("bgtasks").runtime
    await wait_until(lambda: len(runner.slots) == runner.slots.count)  # The slots of its tasks are free again.
    assert sum("goes on as" in line.getMessage() for line in caplog.records) == 1


async def test_an_error_while_a_task_is_given_up_keeps_nothing_from_being_recorded(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process writes under its new id all the same."""

    def fail(record: Record, status: Status) -> None:
        raise RuntimeError("no answer")

    taken = bgtasks.fire(tasks.sleep, 3600)
    await wait_until_running(taken)
    before = get_runner().state.id
    await BackgroundTask.objects.filter(pk=taken.id).aupdate(status="LOST")
    with monkeypatch.context() as patch:
        patch.setattr(get_runner().commits, "taken", fail)
        await declare_dead()
        await wait_until(lambda: get_runner().state.id != before)

        row = await read_row(bgtasks.fire(tasks.succeed))
    assert (row.status, row.process) == ("SUCCESSFUL", get_runner().state.id)
    get_runner().commits.taken(get_runner().registry.live[taken.id.int], Status.LOST)


async def test_what_was_taken_before_its_first_line_is_not_started(runtime: Runtime, tmp_path: Any) -> None:
    """After a suspension the journal may learn the verdicts before the loop takes a step."""
    runner = apps.get_app_config("bgtasks").runtime
    path = tmp_path / "marks"
    handle = bgtasks.fire(tasks.mark, str(path), "started")
    journal = threading.Thread(target=runner.commits.taken, args=(runner.registry.live[handle.id.int], Status.LOST))
    journal.start()
    journal.join()  # Its asyncio task has not had its first step yet.

    with pytest.raises(bgtasks.TaskLost):
        await handle
    await wait_until(lambda: len(runner.slots) == runner.slots.count)
    assert not path.exists()


async def test_what_was_taken_knows_its_own_attempt(runtime: Runtime) -> None:
    """Its row has the number of the next attempt; the attempt that still runs here is the old one."""
    seen = []

    async def look() -> None:
        seen.append(bgtasks.current().attempt)
        try:
            await asyncio.sleep(60)
        finally:
            seen.append(bgtasks.current().attempt)

    handle = bgtasks.fire(look)
    await wait_until_running(handle)
    await BackgroundTask.objects.filter(pk=handle.id).aupdate(status="READY", process=uuid7(), attempt=5)
    await declare_dead()

    await wait_until(lambda: len(seen) == 2)
    assert seen == [1, 1]


gates: dict[int, asyncio.Event] = {}


@bgtasks.task(on_lost="rerun")
async def stubborn() -> int:
    """Wait for the gate of its attempt, and ignore cancellations."""
    attempt = bgtasks.current().attempt
    while not gates[attempt].is_set():
        with contextlib.suppress(asyncio.CancelledError):
            await gates[attempt].wait()
    return attempt


async def test_what_was_taken_may_be_claimed_again_while_it_still_ends(runtime: Runtime) -> None:
    """One process has two attempts at a task. The end of the old one does not end the new one."""
    gates.update({1: asyncio.Event(), 2: asyncio.Event()})
    runner = apps.get_app_config("bgtasks").runtime
    runner.state.is_server = False  # Not yet.
    handle = bgtasks.fire(stubborn)
    await wait_until_running(handle)
    row, before = BackgroundTask.objects.filter(pk=handle.id), get_runner().state.id
    await row.aupdate(status="READY", process=None)
    await declare_dead()
    await wait_until(lambda: get_runner().state.id != before)
    waiting = asyncio.create_task(handle.wait(timeout=20))
    runner.has_backlog = runner.state.is_server = True

    await wait_until(row.filter(status="RUNNING", attempt=2).aexists)
    gates[1].set()
    await wait_until(lambda: len(runner.slots) == runner.slots.count - 1)  # The old attempt has ended.
    is_running = row.filter(status="RUNNING", attempt=2).aexists
    await astays(is_running, 0.2, why="the journal would write the end of the old one within a few milliseconds")
    assert [live.id for live in bgtasks.live_tasks()] == [handle.id]
    gates[2].set()
    assert await waiting == 2
    found = await read_row(handle)
    assert (found.status, found.attempt, found.result) == ("SUCCESSFUL", 2, 2)
    await wait_until(lambda: len(runner.slots) == runner.slots.count)


@pytest.mark.django_db(transaction=True)
def test_a_late_finish_does_not_overwrite_another_attempt_of_the_same_process() -> None:
    """
    A process continues after it was declared dead: it claims attempt 2 before the end of attempt 1 is written.

    Found by the chaos run on SQLite, where the row counted as one with a lost answer.
    """
    process = Process.objects.create(pk=uuid7(), pid=1, started_at=timezone.now())
    statements = statements_for("default", process.pk, "")
    entry = (Status.RUNNING, time.time(), 1, "fired")
    loop = asyncio.new_event_loop()
    record = Record(uuid7().int, stubborn.name, stubborn, (), {}, loop, contextvars.Context(), entry)
    loop.close()
    written = []
    writer = Writer(statements, process.pk, written.append)
    writer.write([record])
    record.written = (Status.RUNNING, 1)
    BackgroundTask.objects.update(status="READY", process=None)
    with statements.transaction() as cursor:
        assert len(statements.claim(cursor, Wanted([stubborn.name]), 1, time.time())) == 1

    record.history.append((Status.SUCCESSFUL, time.time(), 1, "returned"))
    writer.write([record])

    row = BackgroundTask.objects.get()
    assert (row.status, row.attempt) == ("RUNNING", 2)
    assert row.transitions[-1]["why"].startswith("came too late")
    assert not written[-1].again  # The record needs no further write.


async def test_a_deleted_process_row_takes_nothing_along(runtime: Runtime) -> None:
    """The process keeps its tasks. Tasks fired meanwhile are recorded under its new id, and counted once."""
    running = bgtasks.fire(tasks.sleep, 1)
    await wait_until_running(running)
    await Process.objects.all().adelete()
    late = [bgtasks.fire(tasks.succeed, number) for number in range(20)]
    for handle in late:
        assert (await read_row(handle)).status == "SUCCESSFUL"
    assert await running == 1
    assert (await read_row(running)).status == "SUCCESSFUL"
    counted = await Process.objects.aaggregate(total=Sum("fired_count"))
    assert counted["total"] == 20


async def test_a_dead_process_records_nothing_under_its_old_id(runtime: Runtime, caplog: Any) -> None:
    await (await bgtasks.afire(tasks.succeed))
    old = get_runner().state.id
    await declare_dead()
    handles = [bgtasks.fire(tasks.sleep, 0.3) for _ in range(5)]
    handles += list(await asyncio.gather(*[bgtasks.afire(tasks.succeed) for _ in range(5)]))
    rows = [await read_row(handle) for handle in handles]
    assert {row.status for row in rows} == {"SUCCESSFUL"}
    assert old not in {row.process for row in rows} | {row.origin for row in rows}
    counts = {row.pk: row.fired_count async for row in Process.objects.all()}
    assert counts[old] == 1
    assert sum(counts.values()) == 11
    assert not [line for line in caplog.records if "does not take records" in line.getMessage()]


async def test_a_claim_whose_answer_got_lost_is_given_back(runtime: Runtime, monkeypatch: Any) -> None:
    """Rows say that this process runs them, but it does not: they become READY, and the attempt is not counted."""
    real = Claimer._claim
    lost: list[int] = []

    def claim(self: Claimer, group: Group, count: int) -> Any:
        records = real(self, group, count)
        if not lost and records:
            lost.append(len(records))
            raise OperationalError("server closed the connection unexpectedly")
        return records

    monkeypatch.setattr(Claimer, "_claim", claim)
    await asyncio.to_thread(_leave_ready_rows, 3)
    await wait_until(lambda: _all_successful(3))
    assert lost
    assert {row.attempt async for row in BackgroundTask.objects.all()} == {1}


async def test_a_retry_is_not_taken_for_a_lost_claim(runtime: Runtime, monkeypatch: Any, caplog: Any) -> None:
    """At the first look attempt 1 is on its way to the journal, at the second look attempt 2."""
    journal = get_runner().journal
    rescuer = next(service for service in journal.services if isinstance(service, Rescuer))
    rescuer._next = math.inf  # Only the test looks.
    starts: list[int] = []
    may_end = asyncio.Event()

    @bgtasks.task(name="twice", max_attempts=2, backoff="constant", backoff_first=0.01)
    async def twice() -> None:
        starts.append(bgtasks.current().attempt)
        await may_end.wait()
        may_end.clear()
        if len(starts) == 1:
            raise ValueError

    async def look() -> None:
        """Look as if no task that runs here were known yet."""
        done = asyncio.Event()
        loop = asyncio.get_running_loop()

        def look_there() -> None:
            with monkeypatch.context() as patch:
                patch.setattr(journal, "knows", lambda number: False)
                patch.setattr(get_runner().registry, "count_running", lambda: 0)
                rescuer._give_back_unknown("default")
            loop.call_soon_threadsafe(done.set)

        journal.submit(look_there)
        await done.wait()

    handle = await bgtasks.afire(twice)
    for attempt in (1, 2):
        await wait_until(lambda attempt=attempt: _runs(handle, attempt))
        await look()
        may_end.set()
    await handle.wait(timeout=20)
    row = await read_row(handle)
    assert (row.status, row.attempt, starts) == ("SUCCESSFUL", 2, [1, 2])
    assert "answer was lost" not in caplog.text


async def _runs(handle: Any, attempt: int) -> bool:
    return await BackgroundTask.objects.filter(pk=handle.id, status="RUNNING", attempt=attempt).aexists()


def _leave_ready_rows(count: int) -> None:
    for number in range(count):
        BackgroundTask.objects.create(
            name=tasks.succeed.name, args=[number], created_at="2026-01-01T00:00:00Z", max_attempts=1
        )
    connection.close()  # The connection of this thread.


async def _all_successful(count: int) -> bool:
    return await BackgroundTask.objects.filter(status="SUCCESSFUL").acount() == count


@pytest.fixture
def impatient(settings: Any) -> None:
    settings.BGTASKS = {**settings.BGTASKS, "DEAD_AFTER": 1.5}


async def test_a_verdict_is_announced_and_logged(impatient: None, runtime: Runtime, caplog: Any) -> None:
    """A process without a row counts as dead after DEAD_AFTER."""
    seen: list[dict[str, Any]] = []

    def note(**kwargs: Any) -> None:
        seen.append(kwargs)

    gone = uuid7()
    row = await BackgroundTask.objects.acreate(
        name=tasks.succeed.name, status="RUNNING", process=gone, attempt=1, created_at="2026-01-01T00:00:00Z"
    )
    task_finished.connect(note)
    try:
        with caplog.at_level(logging.WARNING, logger="bgtasks"):
            await wait_until(lambda: bool(seen), seconds=30)
    finally:
        task_finished.disconnect(note)
    assert seen[0]["sender"] is tasks.succeed
    assert (seen[0]["task_id"], seen[0]["status"], seen[0]["previous"]) == (row.pk, Status.LOST, Status.RUNNING)
    assert any("has left 1 tasks: LOST ×1" in line.getMessage() for line in caplog.records)


@pytest.mark.parametrize(
    ("on_lost", "attempt", "asked", "counts", "expected"),
    [
        ("fail", 1, False, True, ("LOST", 1)),
        ("fail", 1, False, False, ("LOST", 1)),
        ("rerun", 1, False, True, ("READY", 1)),
        ("rerun", 3, False, True, ("LOST", 3)),
        ("rerun", 3, False, False, ("READY", 2)),
        ("rerun", 1, True, True, ("CANCELLED", 1)),
    ],
)
@pytest.mark.django_db
def test_the_verdict(on_lost: str, attempt: int, asked: bool, counts: bool, expected: tuple[str, int]) -> None:
    process = uuid7()
    moment = "2026-01-01T00:00:00Z"
    row = BackgroundTask.objects.create(
        name="a", status="RUNNING", process=process, attempt=attempt, max_attempts=3, on_lost=on_lost,
        created_at=moment, cancel_requested_at=moment if asked else None,
    )  # fmt: skip
    [verdict] = transitions.give_verdicts("default", process, "an observer", "its process died", 10, counts)
    row.refresh_from_db()
    assert (row.status, row.attempt) == (verdict.status, verdict.attempt) == expected
    assert (row.process is None) == (row.status == "READY")
    assert (row.finished_at is None) == (row.status == "READY")
    assert row.transitions[-1]["status"] == row.status
    assert transitions.give_verdicts("default", process, "an observer", "its process died", 10, counts) == []


@pytest.mark.django_db
def test_a_coroutine_object_that_waited_is_lost() -> None:
    process = uuid7()
    row = BackgroundTask.objects.create(name="a", status="READY", process=process, created_at="2026-01-01T00:00:00Z")
    other = BackgroundTask.objects.create(name="b", status="READY", created_at="2026-01-01T00:00:00Z")
    transitions.give_verdicts("default", process, "an observer", "its process died", 10, True)
    row.refresh_from_db()
    other.refresh_from_db()
    assert (row.status, other.status) == ("LOST", "READY")


@pytest.mark.django_db
def test_adoption_leaves_verdicts_alone() -> None:
    old, new = uuid7(), uuid7()
    statuses = ["RUNNING", "READY", "LOST", "SUCCESSFUL"]
    for status in statuses:
        BackgroundTask.objects.create(name=status, status=status, process=old, created_at="2026-01-01T00:00:00Z")
    statements = statements_for("default", new, "")
    with statements.transaction() as cursor:
        statements.adopt(cursor, old)
    owners = dict(BackgroundTask.objects.values_list("name", "process"))
    assert owners == {"RUNNING": new, "READY": new, "LOST": old, "SUCCESSFUL": old}


def test_a_late_look_starts_the_observation_anew() -> None:
    observation = DeathWatch(dead_after=10, heartbeat=5)
    process = uuid7()
    assert observation.look(0, 0, {process: 1}) == {}
    assert observation.look(9, 9, {process: 1}) == {}
    assert observation.look(20, 20, {process: 1}) == {}  # 11 s after the last look.
    assert observation.look(25, 25, {process: 1}) == {}
    assert observation.look(29, 30.5, {process: 1}) == {}  # This look ended late, so its beat is certain only for 29 s.
    assert observation.look(30, 30, {process: 1}) == {process: 1}


def test_a_beat_starts_the_observation_anew() -> None:
    observation = DeathWatch(dead_after=10, heartbeat=5)
    process, other = uuid7(), uuid7()
    for at in (0, 5):
        assert observation.look(at, at, {process: 1, other: 1}) == {}
    assert observation.look(10, 10, {process: 2, other: 1}) == {other: 1}
    assert observation.look(15, 15, {process: 2}) == {}
    assert observation.look(20, 20, {process: 2}) == {process: 2}


@pytest.mark.django_db
def test_a_running_row_without_a_process_is_not_rescued() -> None:
    """Such a process would include all rows without one, and READY rows have none."""
    owner = uuid7()
    for status, process in (("RUNNING", None), ("READY", None), ("RUNNING", owner)):
        BackgroundTask.objects.create(name="a", status=status, process=process, created_at="2026-01-01T00:00:00Z")
    assert Look("default", uuid7()).beats == {owner: None}
