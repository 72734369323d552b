"""At most one live task has a key, over all processes and at any time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async
from django.apps import apps
from django.db import IntegrityError, OperationalError, connection, connections, transaction
from django.utils import timezone

import bgtasks
from bgtasks import transitions
from bgtasks.journal import keys, spool
from bgtasks.journal.statements import Statements, statements_for
from bgtasks.journal.statements import base as statements_base
from bgtasks.maintenance.rescue import declare_dead, rescue
from bgtasks.models import BackgroundTask, Process
from bgtasks.operations.fire_again import Refusal, fire_again
from bgtasks.reports.audit import Auditor
from bgtasks.signals import task_fired
from bgtasks.uuid7 import uuid7
from tests import databases
from tests.app import tasks
from tests.conftest import Runtime, read_row, wait_until
from tests.waiting import next_turn


class Undo(Exception):
    pass


@pytest.fixture
def few_slots(settings: Any) -> None:
    settings.BGTASKS = {**settings.BGTASKS, "MAX_RUNNING": 2}


def get_runner() -> Any:
    return apps.get_app_config("bgtasks").runtime


def statements_class() -> type[Statements]:
    return type(statements_for("default", uuid7(), ""))


def count_starts(path: Path) -> Counter[str]:
    lines = path.read_text().splitlines() if path.exists() else []
    return Counter(line.removeprefix("start ") for line in lines if line.startswith("start"))


async def check_audit() -> None:
    """Wait until the audit finds no problem: fired tasks and rows agree, and each row is legal."""

    async def is_accounted() -> bool:
        audit = await sync_to_async(Auditor("default", get_runner().settings).audit)()
        return not audit.problems

    await wait_until(is_accounted)


async def make_holder(**values: Any) -> BackgroundTask:
    """Make a task of another process with the key "k", READY by default."""
    now = timezone.now()
    history = [{"status": values.get("status", "READY"), "at": now.isoformat(), "attempt": 0, "by": "", "why": "fired"}]
    row = {"name": "elsewhere", "created_at": now, "key": "k", "live_key": "k", "transitions": history}
    return await BackgroundTask.objects.acreate(**{**row, **values})


# Firing.


async def test_many_at_once_are_one(runtime: Runtime, tmp_path: Path) -> None:
    """Later calls return the handle of the live task."""
    path = tmp_path / "marks"
    task = tasks.mark.using(key="one")
    handles = await asyncio.gather(*(bgtasks.afire(task, str(path), f"{number}", 0.3) for number in range(50)))
    assert len({handle.id for handle in handles}) == 1
    await asyncio.gather(*handles)
    assert count_starts(path).total() == 1
    assert await BackgroundTask.objects.acount() == 1
    await check_audit()


async def test_fire_reports_the_conflict_by_its_handle(runtime: Runtime, tmp_path: Path) -> None:
    path = tmp_path / "marks"
    fired: list[Any] = []

    def note(task_id: Any, **details: Any) -> None:
        fired.append(task_id)

    task_fired.connect(note)
    try:
        handles = [bgtasks.fire(tasks.mark.using(key="k"), str(path), f"{number}", 0.2) for number in range(20)]
        first = handles[0]
        for handle in handles[1:]:
            with pytest.raises(bgtasks.KeyConflict, match="'k' is taken") as caught:
                await handle.wait(timeout=20)
            assert (caught.value.id, caught.value.key) == (first.id, "k")
            assert handle.conflict == first.id
            assert "key taken" in repr(handle)
            assert not handle.cancel()
            with pytest.raises(bgtasks.KeyConflict):
                handle.status  # noqa: B018
        assert first.conflict is None
        await first
        await read_row(first)
    finally:
        task_fired.disconnect(note)
    assert count_starts(path) == {"0": 1}
    assert fired == [first.id]
    assert bgtasks.pending_task_count() == 0
    await check_audit()


async def test_it_starts_only_once_its_row_is_committed(runtime: Runtime, tmp_path: Path) -> None:
    path = tmp_path / "marks"
    await (await bgtasks.afire(tasks.succeed))
    goes_on = threading.Event()
    is_held = threading.Event()
    get_runner().journal.submit(lambda: (is_held.set(), goes_on.wait(20)))
    await wait_until(is_held.is_set)
    handle = bgtasks.fire(tasks.mark.using(key="k"), str(path), "k")
    plain = bgtasks.fire(tasks.mark, str(path), "plain")
    await plain
    assert count_starts(path) == {"plain": 1}
    goes_on.set()
    await handle
    assert count_starts(path) == {"plain": 1, "k": 1}


async def test_nothing_starts_during_an_outage(settings: Any, runtime: Runtime, tmp_path: Path) -> None:
    path = tmp_path / "marks"
    await (await bgtasks.afire(tasks.succeed))
    with databases.WriteLock(str(connection.settings_dict["NAME"])):
        handles = [bgtasks.fire(tasks.mark.using(key="k"), str(path), f"{number}") for number in range(3)]
        handles.append(bgtasks.fire(tasks.mark.using(key="other"), str(path), "other"))
        await wait_until(lambda: get_runner().journal.outage.is_away)
        assert count_starts(path) == {}
    results = await asyncio.gather(*handles, return_exceptions=True)
    assert [type(result).__name__ for result in results] == ["NoneType", "KeyConflict", "KeyConflict", "NoneType"]
    assert count_starts(path) == {"0": 1, "other": 1}
    await check_audit()


async def test_the_key_is_free_after_each_end(runtime: Runtime) -> None:
    for task, args in ((tasks.succeed, ()), (tasks.fail, ()), (tasks.succeed, ()), (tasks.sleep, (60,))):
        handle = await bgtasks.afire(task.using(key="k", on_conflict="error"), *args)
        if args:
            assert handle.cancel()
        with suppress(bgtasks.TaskFailed, bgtasks.TaskCancelled):
            await handle
        assert (await read_row(handle)).live_key is None
    await (await bgtasks.afire(tasks.succeed.using(key="k", on_conflict="error")))
    await check_audit()


async def test_one_after_the_other_without_a_wait_for_the_row(runtime: Runtime) -> None:
    """One batch may contain the end of the first and the firing of the next. The end is written first."""
    for number in range(30):
        handle = await bgtasks.afire(tasks.succeed.using(key="k", on_conflict="error"), number)
        assert await handle == number
    await check_audit()


@pytest.mark.parametrize("key", ["A", "a ", " a", "ä", "á", "a\u0301", "\U0001f600", "ss", "ß"])
async def test_keys_are_compared_exactly(runtime: Runtime, key: str) -> None:
    """In columns with MariaDB's usual collation "A", "a" and "a " are equal."""
    first = await bgtasks.afire(tasks.sleep.using(key="a"), 60)
    second = await bgtasks.afire(tasks.succeed.using(key=key, on_conflict="error"), key)
    assert await second == key
    with pytest.raises(bgtasks.KeyConflict):
        await bgtasks.afire(tasks.succeed.using(key="a", on_conflict="error"))
    first.cancel()


async def test_a_declared_key(runtime: Runtime) -> None:
    @bgtasks.task(name="only_one", key="the only one", on_conflict="error")
    async def only_one(seconds: float) -> None:
        await asyncio.sleep(seconds)

    handle = await bgtasks.afire(only_one, 60)
    with pytest.raises(bgtasks.KeyConflict) as caught:
        await bgtasks.afire(only_one, 60)
    assert caught.value.id == handle.id
    await (await bgtasks.afire(only_one.using(key=None), 0))
    handle.cancel()


# Waiting for a slot.


async def test_what_waits_for_a_slot_has_its_key(few_slots: None, runtime: Runtime, tmp_path: Path) -> None:
    path = tmp_path / "marks"
    busy = [bgtasks.fire(tasks.sleep, 0.5) for _ in range(2)]
    waiting = [bgtasks.fire(tasks.mark.using(key=f"{number % 2}"), str(path), f"{number}") for number in range(6)]
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result).__name__ for result in results] == ["NoneType"] * 2 + ["KeyConflict"] * 4
    await asyncio.gather(*busy)
    assert count_starts(path) == {"0": 1, "1": 1}
    await wait_until(lambda: len(get_runner().slots) == 2)
    await check_audit()


async def test_conflicts_give_their_slots_back(few_slots: None, runtime: Runtime) -> None:
    holder = await make_holder()
    for _ in range(10):
        with pytest.raises(bgtasks.KeyConflict):
            await bgtasks.afire(tasks.succeed.using(key="k", on_conflict="error"))
    await wait_until(lambda: len(get_runner().slots) == 2)
    assert bgtasks.pending_task_count() == 0
    await holder.arefresh_from_db()
    assert holder.status == "READY"


async def test_the_key_stays_taken_between_two_attempts(runtime: Runtime) -> None:
    @bgtasks.task(name="fails_once", max_attempts=2, backoff="constant", backoff_first=0.3, backoff_jitter=False)
    async def fails_once() -> int:
        if bgtasks.current().attempt == 1:
            raise ValueError("once")
        return bgtasks.current().attempt

    handle = await bgtasks.afire(fails_once.using(key="k"))
    await wait_until(lambda: handle.status is bgtasks.Status.READY)
    other = bgtasks.fire(tasks.succeed.using(key="k"))
    with pytest.raises(bgtasks.KeyConflict):
        await other.wait(timeout=20)
    assert other.conflict == handle.id
    assert await handle == 2
    assert (await read_row(handle)).live_key is None
    await (await bgtasks.afire(tasks.succeed.using(key="k", on_conflict="error")))


async def test_cancelling_what_waits_frees_its_key(runtime: Runtime) -> None:
    waiting = await bgtasks.afire(tasks.succeed.using(key="k", run_after=timedelta(hours=1), unique_for=3600))
    assert waiting.cancel()
    with pytest.raises(bgtasks.TaskCancelled):
        await waiting.wait(timeout=20)
    await (await bgtasks.afire(tasks.succeed.using(key="k", on_conflict="error")))
    await check_audit()


async def test_cancelled_before_it_was_written(runtime: Runtime) -> None:
    """The task never ran, so no `unique_for` begins."""
    await (await bgtasks.afire(tasks.succeed))
    goes_on = threading.Event()
    get_runner().journal.submit(lambda: goes_on.wait(20))
    waiting = bgtasks.fire(tasks.succeed.using(key="k", run_after=timedelta(hours=1), unique_for=3600))
    assert waiting.cancel()
    goes_on.set()
    assert (await read_row(waiting)).status == "CANCELLED"
    await (await bgtasks.afire(tasks.succeed.using(key="k", on_conflict="error")))
    await check_audit()


# Conflicts.


async def test_the_live_one_may_run_in_another_process(runtime: Runtime) -> None:
    holder = await make_holder(process=uuid7(), status="RUNNING", attempt=1)
    handle = await bgtasks.afire(tasks.succeed.using(key="k"))
    assert handle.id == holder.pk
    assert handle.status is bgtasks.Status.RUNNING
    waiting = asyncio.ensure_future(handle.wait(timeout=20))
    await next_turn()
    now = timezone.now()
    await BackgroundTask.objects.filter(pk=holder.pk).aupdate(
        status="SUCCESSFUL", result={"a": 1}, finished_at=now, live_key=None
    )
    assert await waiting == {"a": 1}


async def test_the_live_one_that_is_over_by_now(runtime: Runtime, monkeypatch: Any) -> None:
    """The holder ends between the refusal and its lookup, so the handle is that of a finished task."""
    holder = await make_holder()
    find_holder = get_runner().admission._find_holder

    async def end_and_meet(*args: Any) -> Any:
        now = timezone.now()
        rows = BackgroundTask.objects.filter(pk=holder.pk)
        await rows.aupdate(status="SUCCESSFUL", result=5, finished_at=now, live_key=None)
        return await find_holder(*args)

    monkeypatch.setattr(get_runner().admission, "_find_holder", end_and_meet)
    handle = await bgtasks.afire(tasks.succeed.using(key="k"))
    assert (handle.id, handle.status, await handle) == (holder.pk, "SUCCESSFUL", 5)


async def test_the_live_one_that_is_deleted_by_now(runtime: Runtime, monkeypatch: Any) -> None:
    holder = await make_holder()
    find_holder = get_runner().admission._find_holder

    async def delete_and_meet(*args: Any) -> Any:
        await BackgroundTask.objects.filter(pk=holder.pk).adelete()
        return await find_holder(*args)

    monkeypatch.setattr(get_runner().admission, "_find_holder", delete_and_meet)
    with pytest.raises(bgtasks.KeyConflict):
        await bgtasks.afire(tasks.succeed.using(key="k"))


async def test_replace_takes_the_place_of_one_that_waits(runtime: Runtime) -> None:
    later = timedelta(hours=1)
    first = await bgtasks.afire(tasks.succeed.using(key="k", run_after=later), 1)
    second = await bgtasks.afire(tasks.succeed.using(key="k", run_after=later, on_conflict="replace"), 2)
    third = bgtasks.fire(tasks.succeed.using(key="k", on_conflict="replace"), 3)
    assert await third == 3
    for replaced in (first, second):
        with pytest.raises(bgtasks.TaskCancelled):
            await replaced.wait(timeout=20)
        row = await read_row(replaced)
        assert "replaced by" in row.transitions[-1]["why"]
    await check_audit()


async def test_replace_leaves_alone_what_runs(runtime: Runtime) -> None:
    running = await bgtasks.afire(tasks.sleep.using(key="k"), 0.3)
    with pytest.raises(bgtasks.KeyConflict) as caught:
        await bgtasks.afire(tasks.succeed.using(key="k", on_conflict="replace"))
    assert caught.value.id == running.id
    assert await running == 0.3
    assert (await read_row(running)).cancel_requested_at is None


async def test_replace_leaves_alone_what_is_claimed_right_then(runtime: Runtime, monkeypatch: Any) -> None:
    """The holder starts elsewhere between its lookup and the write. A cancellation would end both tasks."""
    holder = await make_holder()
    cancel = transitions.cancel

    def claim_and_cancel(*args: Any, **options: Any) -> Any:
        BackgroundTask.objects.filter(pk=holder.pk).update(process=uuid7(), status="RUNNING", attempt=1)
        return cancel(*args, **options)

    monkeypatch.setattr(keys.transitions, "cancel", claim_and_cancel)
    with pytest.raises(bgtasks.KeyConflict):
        await bgtasks.afire(tasks.succeed.using(key="k", on_conflict="replace"))
    await holder.arefresh_from_db()
    assert (holder.status, holder.cancel_requested_at) == ("RUNNING", None)


async def test_replace_one_that_ends_right_then(runtime: Runtime, monkeypatch: Any) -> None:
    holder = await make_holder()
    cancel = transitions.cancel

    def end_and_cancel(*args: Any, **options: Any) -> Any:
        now = timezone.now()
        BackgroundTask.objects.filter(pk=holder.pk).update(status="CANCELLED", finished_at=now, live_key=None)
        return cancel(*args, **options)

    monkeypatch.setattr(keys.transitions, "cancel", end_and_cancel)
    assert await (await bgtasks.afire(tasks.succeed.using(key="k", on_conflict="replace"), 1)) == 1


async def test_the_key_stays_taken_for_a_while(runtime: Runtime) -> None:
    handle = await bgtasks.afire(tasks.succeed.using(key="k", unique_for=3600), 5)
    assert await handle == 5
    await read_row(handle)
    again = await bgtasks.afire(tasks.succeed.using(key="k"), 6)
    assert (again.id, await again) == (handle.id, 5)
    for conflict in ("error", "replace"):
        with pytest.raises(bgtasks.KeyConflict):
            await bgtasks.afire(tasks.succeed.using(key="k", on_conflict=conflict))
    await check_audit()

    long_ago = timezone.now() - timedelta(hours=2)
    await BackgroundTask.objects.filter(pk=handle.id).aupdate(finished_at=long_ago)
    assert await (await bgtasks.afire(tasks.succeed.using(key="k", on_conflict="error"), 7)) == 7
    assert (await BackgroundTask.objects.aget(pk=handle.id)).live_key is None
    await check_audit()


# In a transaction.


async def test_a_key_in_a_transaction(runtime: Runtime, tmp_path: Path) -> None:
    path = str(tmp_path / "marks")

    def work(is_undone: bool) -> list[Any]:
        handles = []
        with suppress(Undo), transaction.atomic():
            handles = [bgtasks.fire(tasks.mark.using(key="k"), path, f"{number} {is_undone}") for number in range(3)]
            assert [handle.conflict for handle in handles] == [None, handles[0].id, handles[0].id]
            if is_undone:
                raise Undo
        return handles

    undone, *_ = await sync_to_async(work)(True)
    with pytest.raises(bgtasks.RolledBack):
        await undone
    done, *others = await sync_to_async(work)(False)
    await done.wait(timeout=20)
    for other in others:
        with pytest.raises(bgtasks.KeyConflict):
            await other
    assert count_starts(tmp_path / "marks") == {"0 False": 1}
    await check_audit()


async def test_replaced_in_a_transaction_that_is_rolled_back(runtime: Runtime) -> None:
    waiting = await bgtasks.afire(tasks.succeed.using(key="k", run_after=timedelta(hours=1)))

    def work() -> None:
        with suppress(Undo), transaction.atomic():
            bgtasks.fire(tasks.succeed.using(key="k", on_conflict="replace"))
            raise Undo

    await sync_to_async(work)()
    row = await BackgroundTask.objects.aget()
    assert (row.pk, row.status, row.live_key) == (waiting.id, "READY", "k")


@pytest.mark.databases("postgresql", "mariadb")  # On SQLite an open transaction blocks all other writes.
@pytest.mark.parametrize("is_undone", [False, True])
async def test_a_transaction_that_takes_long_holds_up_its_key_only(
    runtime: Runtime, tmp_path: Path, is_undone: bool
) -> None:
    """Until its end the key is neither free nor taken. All other records are written."""
    key = uuid4().hex  # MariaDB locks the gaps beside the key of a deleted row until it has removed that row.
    is_open, may_end = threading.Event(), threading.Event()

    def work() -> Any:
        try:
            with suppress(Undo), transaction.atomic():
                handle = bgtasks.fire(tasks.wait_for_file.using(key=key), str(tmp_path / "over"))
                is_open.set()
                may_end.wait(30)
                if is_undone:
                    raise Undo
            return handle
        finally:
            connections.close_all()

    working = asyncio.ensure_future(asyncio.to_thread(work))
    await wait_until(is_open.is_set)
    waiting = bgtasks.fire(tasks.succeed.using(key=key), "outside")
    others = [bgtasks.fire(tasks.succeed.using(key=f"{number}"), number) for number in range(3)]
    assert await asyncio.gather(*others) == [0, 1, 2]
    for _ in range(3):
        handle = bgtasks.fire(tasks.succeed, 1)
        assert (await read_row(handle)).status == "SUCCESSFUL"
    assert not get_runner().journal.outage.is_away
    assert waiting.conflict is None
    assert not await BackgroundTask.objects.filter(pk=waiting.id).aexists()
    may_end.set()
    inner = await working
    if is_undone:
        assert await waiting.wait(timeout=20) == "outside"
    else:
        with pytest.raises(bgtasks.KeyConflict):
            await waiting.wait(timeout=20)
        (tmp_path / "over").touch()
        await inner.wait(timeout=20)
    await check_audit()


@pytest.mark.databases("postgresql", "mariadb")
async def test_afire_of_a_key_in_an_open_transaction_is_withdrawn(settings: Any, runtime: Runtime) -> None:
    await runtime.stop()
    settings.BGTASKS = {**settings.BGTASKS, "WRITE_TIMEOUT": 0.5}
    await runtime.start()
    is_open, may_end = threading.Event(), threading.Event()

    def work() -> None:
        try:
            with suppress(Undo), transaction.atomic():
                bgtasks.fire(tasks.succeed.using(key="k"))
                is_open.set()
                may_end.wait(30)
                raise Undo
        finally:
            connections.close_all()

    working = asyncio.ensure_future(asyncio.to_thread(work))
    await wait_until(is_open.is_set)
    with pytest.raises((bgtasks.NotRecorded, bgtasks.RecordUnknown)) as caught:  # The second if a write is under way.
        await bgtasks.afire(tasks.succeed.using(key="k"), 1)
    may_end.set()
    await working
    if isinstance(caught.value, bgtasks.RecordUnknown):
        await wait_until(lambda: BackgroundTask.objects.filter(status="SUCCESSFUL").aexists())
    await runtime.stop()
    assert await BackgroundTask.objects.acount() == isinstance(caught.value, bgtasks.RecordUnknown)
    await wait_until(lambda: len(get_runner().slots) == get_runner().slots.count)


async def test_a_key_that_changes_hands_at_each_try_is_put_off(runtime: Runtime, monkeypatch: Any) -> None:
    """The record keeps its contents, unlike one that the database refuses."""
    tries = [0]

    insert = statements_class().insert_keyed

    def refuse(self: Statements, cursor: Any, row: Any) -> bool:
        tries[0] += 1
        return tries[0] > 3 * keys.TRIES and insert(self, cursor, row)

    monkeypatch.setattr(statements_class(), "insert_keyed", refuse)
    handle = bgtasks.fire(tasks.succeed.using(key="k"), {"a": 1})
    assert await handle.wait(timeout=20) == {"a": 1}
    assert (await read_row(handle)).args == [{"a": 1}]
    assert tries[0] == 3 * keys.TRIES + 1


# Lost answers.


@pytest.fixture
def lose_answers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Raise an error after commits of the journal, as many as the list says."""
    real = transaction.atomic
    lost = [0]

    class LosesTheAnswer:
        def __init__(self, using: str) -> None:
            self._inner = real(using=using)
            self._is_outermost = not connections[using].in_atomic_block

        def __enter__(self) -> None:
            self._inner.__enter__()

        def __exit__(self, *error: Any) -> None:
            self._inner.__exit__(*error)
            if lost[0] and error[0] is None and self._is_outermost:
                lost[0] -= 1
                raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(statements_base, "transaction", SimpleNamespace(atomic=LosesTheAnswer))
    return lost


async def test_who_lost_the_answer_does_not_take_itself_for_the_holder(
    runtime: Runtime, lose_answers: list[int], tmp_path: Path
) -> None:
    path = tmp_path / "marks"
    await (await bgtasks.afire(tasks.succeed))
    lose_answers[0] = 1
    first = bgtasks.fire(tasks.mark.using(key="k"), str(path), "0", 0.2)
    second = bgtasks.fire(tasks.mark.using(key="k"), str(path), "1", 0.2)
    await first
    with pytest.raises(bgtasks.KeyConflict):
        await second
    assert lose_answers == [0]
    assert count_starts(path) == {"0": 1}
    await check_audit()


async def test_who_lost_the_answer_and_then_its_key_was_fired(
    runtime: Runtime, lose_answers: list[int], monkeypatch: Any
) -> None:
    """Before the second try its row was claimed and has ended, and another task has the key."""
    await (await bgtasks.afire(tasks.succeed))
    insert = statements_class().insert_keyed
    seen: list[int] = []

    def be_late(self: Statements, cursor: Any, row: Any) -> bool:
        seen.append(1)
        if len(seen) == 2:
            values = {"status": "SUCCESSFUL", "result": 5, "attempt": 1, "process": uuid7(), "live_key": None}
            BackgroundTask.objects.filter(key="k").update(**values, finished_at=timezone.now())
            BackgroundTask.objects.create(name="other", key="k", live_key="k", created_at=timezone.now())
        return bool(insert(self, cursor, row))

    monkeypatch.setattr(statements_class(), "insert_keyed", be_late)
    lose_answers[0] = 1
    later = timedelta(hours=1)  # It waits as READY, for any process.
    handle = bgtasks.fire(tasks.succeed.using(key="k", run_after=later))
    assert await handle.wait(timeout=20) == 5
    assert handle.conflict is None
    assert len(seen) == 2


async def test_not_recorded_is_never_said_of_what_may_be_stored(
    settings: Any, runtime: Runtime, lose_answers: list[int]
) -> None:
    """The answer to its COMMIT was lost, and then the database was away."""
    await runtime.stop()
    settings.BGTASKS = {**settings.BGTASKS, "WRITE_TIMEOUT": 1}
    await runtime.start()
    await (await bgtasks.afire(tasks.succeed))
    journal = get_runner().journal

    def refuse() -> None:
        raise OperationalError("the database is away")

    lose_answers[0] = 1
    firing = asyncio.ensure_future(bgtasks.afire(tasks.succeed.using(key="k"), 5))
    await wait_until(lambda: lose_answers == [0])
    journal._statements.transaction = refuse
    journal._statements.begin_together = lambda *rows: refuse()
    with pytest.raises(bgtasks.RecordUnknown) as caught:
        await firing
    del journal._statements.transaction, journal._statements.begin_together
    assert await (await bgtasks.aget(caught.value.id)).wait(timeout=20) == 5


async def test_one_that_was_taken_before_its_answer_gives_its_slot_back(
    few_slots: None, runtime: Runtime, lose_answers: list[int]
) -> None:
    """After the lost answer its process is declared dead, so the task is LOST and never starts."""
    await (await bgtasks.afire(tasks.succeed))
    journal = get_runner().journal
    process = get_runner().state.id
    holds, may_go_on = threading.Event(), threading.Event()
    heartbeat = journal.heartbeat
    beat = heartbeat.beat

    def wait_and_beat(statements: Any) -> None:
        holds.set()
        may_go_on.wait(20)
        beat(statements)

    lose_answers[0] = 1
    heartbeat.beat = wait_and_beat  # A beat comes first after an outage.
    handle = bgtasks.fire(tasks.succeed.using(key="k"))
    await wait_until(lambda: holds.is_set() and lose_answers == [0])

    def judge() -> None:
        beats = Process.objects.get(pk=process).beat
        assert declare_dead("default", process, beats)
        assert sum(len(verdicts) for verdicts in rescue("default", process, "a test")) == 1

    await sync_to_async(judge)()
    may_go_on.set()
    with pytest.raises(bgtasks.TaskLost):
        await handle.wait(timeout=20)
    await wait_until(lambda: len(get_runner().slots) == 2)
    await (await bgtasks.afire(tasks.succeed.using(key="k", on_conflict="error")))
    await check_audit()


# Processes that end.


async def test_lost_frees_the_key_and_a_rerun_keeps_it(runtime: Runtime) -> None:
    now = timezone.now()
    gone = await Process.objects.acreate(id=uuid7(), host="h", pid=1, state="DEAD", started_at=now, stopped_at=now)
    lost = await make_holder(process=gone.pk, status="RUNNING", attempt=1)
    rerun = await make_holder(
        process=gone.pk, status="RUNNING", attempt=1, max_attempts=3, on_lost="rerun", key="r", live_key="r"
    )
    await wait_until(lambda: BackgroundTask.objects.filter(pk=lost.pk, status="LOST").aexists())
    await wait_until(lambda: BackgroundTask.objects.filter(pk=rerun.pk, status="READY").aexists())
    await (await bgtasks.afire(tasks.succeed.using(key="k", on_conflict="error")))
    with pytest.raises(bgtasks.KeyConflict):
        await bgtasks.afire(tasks.succeed.using(key="r", on_conflict="error"))


async def test_while_draining_it_waits_in_the_table(runtime: Runtime) -> None:
    busy = await bgtasks.afire(tasks.sleep, 0.5)
    draining = asyncio.ensure_future(bgtasks.drain())
    await wait_until(lambda: get_runner().state.is_ending)
    first = await bgtasks.afire(tasks.succeed.using(key="k"))
    second = bgtasks.fire(tasks.succeed.using(key="k"))
    with pytest.raises(bgtasks.KeyConflict):
        await second.wait(timeout=20)
    report = await draining
    assert report.is_written
    await busy
    row = await BackgroundTask.objects.aget(pk=first.id)
    assert (row.status, row.live_key, row.process) == ("READY", "k", None)
    assert not await BackgroundTask.objects.filter(pk=second.id).aexists()
    await check_audit()


async def test_a_drain_during_an_outage_leaves_it_to_the_next_start(
    settings: Any, runtime: Runtime, tmp_path: Path
) -> None:
    """The task has not begun, so another process may start it from the spool, although it runs at most once."""
    await runtime.stop()
    folder, path = tmp_path / "spool", tmp_path / "marks"
    settings.BGTASKS = {
        **settings.BGTASKS,
        "SPOOL_PATH": str(folder),
        "DRAIN_TIMEOUT": 0.1,
        "CANCEL_GRACE": 0.1,
        "FLUSH_TIMEOUT": 0.1,
    }
    await runtime.start()
    await (await bgtasks.afire(tasks.succeed))
    with databases.WriteLock(str(connection.settings_dict["NAME"])):
        handles = [bgtasks.fire(tasks.mark.using(key="k"), str(path), f"{number}") for number in range(2)]
        journal = get_runner().journal
        await wait_until(lambda: journal.outage.is_away)
        await runtime.stop()
        await asyncio.to_thread(journal._thread.join, 20)  # It may be in a last try.
    assert count_starts(path) == {}
    files = [found for found in folder.glob("*") if found.suffix == spool.DONE]
    lines = [line for found in files for line in found.read_text().splitlines()]
    found = {record.id: record for record in (spool.decode(line, {})[2] for line in lines)}
    assert [(found[handle.id].status, found[handle.id].attempt) for handle in handles] == [("READY", 0)] * 2
    await runtime.start()
    await wait_until(lambda: not list(folder.glob("*")))
    await wait_until(lambda: BackgroundTask.objects.filter(key="k", status="SUCCESSFUL").aexists())
    assert count_starts(path) == {"0": 1}
    assert await BackgroundTask.objects.filter(key="k").acount() == 1
    await check_audit()


# Late options.


async def test_a_row_without_a_key_gets_none_later(runtime: Runtime) -> None:
    """The row was fired without the key of the declaration, which is all that the claiming process knows."""
    goes_on = asyncio.Event()

    @bgtasks.task(name="declares_a_key", key="k", max_attempts=2, backoff="constant", backoff_first=0.01)
    async def declares() -> int:
        current = bgtasks.current()
        current.progress(1)
        current.set_checkpoint([current.attempt])
        if current.attempt == 1:
            raise ValueError("once")
        await goes_on.wait()
        return current.attempt

    holder = await make_holder()
    row = await BackgroundTask.objects.acreate(name="declares_a_key", created_at=timezone.now(), max_attempts=2)
    await wait_until(lambda: BackgroundTask.objects.filter(pk=row.pk, status="RUNNING", attempt=2).aexists())
    goes_on.set()
    handle = await bgtasks.aget(row.pk)
    assert await handle.wait(timeout=20) == 2
    row = await read_row(handle)
    assert (row.key, row.live_key, row.checkpoint) == ("", None, [2])
    await holder.arefresh_from_db()
    assert holder.live_key == "k"


# By hand.


@pytest.mark.django_db(transaction=True)
def test_fired_again_with_its_key() -> None:
    now = timezone.now()
    rows = [BackgroundTask(name="n", status="FAILED", key="k", created_at=now, finished_at=now) for _ in range(2)]
    BackgroundTask.objects.bulk_create(rows)
    first, second = (row.pk for row in rows)

    outcome = fire_again("default", [first, second], "a test", "asked")
    assert outcome.refused == {second: Refusal.KEY_TAKEN}
    [new] = outcome.fired.values()
    assert (new.key, new.live_key) == ("k", "k")
    assert BackgroundTask.objects.filter(fired_again_from=first, live_key="k").count() == 1
    assert fire_again("default", [second], "a test", "asked").refused == {second: Refusal.KEY_TAKEN}

    transitions.cancel("default", new.pk, "a test", "cancelled")
    assert list(fire_again("default", [second], "a test", "asked").fired) == [second]


@pytest.mark.django_db(transaction=True)
def test_fired_again_while_its_own_key_stays_taken() -> None:
    now = timezone.now()
    values = {"name": "n", "status": "SUCCESSFUL", "key": "k", "live_key": "k", "unique_for": 60, "created_at": now}
    old = BackgroundTask.objects.create(**values, finished_at=now)
    assert fire_again("default", [old.pk], "a test", "asked").refused == {old.pk: Refusal.KEY_TAKEN}
    BackgroundTask.objects.filter(pk=old.pk).update(finished_at=now - timedelta(seconds=61))
    [new] = fire_again("default", [old.pk], "a test", "asked").fired.values()
    assert (new.live_key, new.unique_for) == ("k", 60)
    old.refresh_from_db()
    assert old.live_key is None


@pytest.mark.django_db(transaction=True)
def test_the_column_is_what_decides() -> None:
    now = timezone.now()
    BackgroundTask.objects.create(name="n", live_key="k", created_at=now)
    with pytest.raises(IntegrityError):
        BackgroundTask.objects.create(name="n", live_key="k", created_at=now)


async def test_a_thousand_keys(runtime: Runtime) -> None:
    """They are written in a few batches, and each key has one task."""
    began = time.monotonic()
    handles = [bgtasks.fire(tasks.succeed.using(key=f"{number % 500}"), number) for number in range(1000)]
    results = await asyncio.gather(*handles, return_exceptions=True)
    done = [result for result in results if isinstance(result, int)]
    assert len(done) + sum(isinstance(result, bgtasks.KeyConflict) for result in results) == 1000
    assert {number % 500 for number in done} == set(range(500))
    assert time.monotonic() - began < 60
    await check_audit()
