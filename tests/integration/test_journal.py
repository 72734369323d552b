"""The writes of the journal, their number, and the refusals of the database."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.apps import apps
from django.db import OperationalError, connection, connections, transaction
from django.utils import timezone

import bgtasks
from bgtasks.journal.statements import PLAIN, Statements
from bgtasks.journal.statements import base as statements_base
from bgtasks.journal.writer import Writer
from bgtasks.models import BackgroundTask, Process
from bgtasks.signals import task_finished, task_fired, task_started
from tests import databases
from tests.app import tasks
from tests.conftest import Runtime, read_row, wait_until
from tests.waiting import astays, wait_for


def get_journal() -> Any:
    return apps.get_app_config("bgtasks").runtime.journal


def lock_writes() -> databases.WriteLock:
    return databases.WriteLock(str(connection.settings_dict["NAME"]))


async def test_what_happens_between_two_batches_is_one_write(runtime: Runtime, monkeypatch: Any) -> None:
    """A task that is over before its first write is inserted in its final state."""
    made: Counter[str] = Counter()

    def count(kind: str) -> Any:
        make = getattr(Statements, kind)

        def count_and_make(*args: Any) -> Any:
            made[kind] += 1
            return make(*args)

        return count_and_make

    for kind in ("insert_row", "update_row"):
        monkeypatch.setattr(Statements, kind, count(kind))
    is_busy, may_go_on = threading.Event(), threading.Event()
    get_journal().submit(lambda: (is_busy.set(), may_go_on.wait(10)))  # As if it wrote a batch.
    await asyncio.to_thread(is_busy.wait, 10)
    handles = [bgtasks.fire(tasks.succeed, number) for number in range(100)]
    await asyncio.gather(*handles)
    may_go_on.set()
    await wait_until(lambda: _all(100))
    assert made == {"insert_row": 100}


async def _all(count: int) -> bool:
    return await BackgroundTask.objects.filter(status="SUCCESSFUL").acount() == count


async def test_an_outage_loses_nothing_and_is_logged_once(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    """Another program holds the write lock for longer than the journal waits."""
    with caplog.at_level(logging.INFO, logger="bgtasks"):
        running = bgtasks.fire(tasks.sleep, 0.2)
        with lock_writes():
            began = time.monotonic()
            fired = [bgtasks.fire(tasks.succeed, number) for number in range(50)]
            assert time.monotonic() - began < 10  # `fire` does not wait for the lock, or 50 calls would take 100 s.
            assert await asyncio.gather(*fired) == list(range(50))
            assert await running == 0.2
            await wait_until(lambda: get_journal().outage.is_away)
            await astays(
                lambda: get_journal().outage.is_away, 1, why="it tries again every HEARTBEAT, 0.5 s, at the latest"
            )
        for handle in [running, *fired]:
            assert (await read_row(handle)).status == "SUCCESSFUL"
        await wait_until(lambda: not get_journal().outage.is_away)
    lines = [found.getMessage() for found in caplog.records]
    assert sum("does not take records" in line for line in lines) == 1
    assert sum("takes records again" in line for line in lines) == 1


async def test_afire_in_an_outage_is_withdrawn(settings: Any, runtime: Runtime) -> None:
    """NotRecorded promises that the task is never stored and never started."""
    await runtime.stop()
    settings.BGTASKS = {**settings.BGTASKS, "WRITE_TIMEOUT": 0.5}
    await runtime.start()
    await (await bgtasks.afire(tasks.succeed))
    started: list[int] = []

    async def note() -> None:
        started.append(1)

    with lock_writes():
        results = await asyncio.gather(
            bgtasks.afire(tasks.succeed, 1), bgtasks.afire(note(), name="note"), return_exceptions=True
        )
        await wait_until(lambda: get_journal().outage.is_away)  # The first write has given up its wait for the lock.
    unknown = [error.id for error in results if isinstance(error, bgtasks.RecordUnknown)]
    refused = [error for error in results if isinstance(error, bgtasks.NotRecorded)]
    assert len(unknown) + len(refused) == 2
    await (await bgtasks.afire(tasks.succeed))
    await wait_until(lambda: bgtasks.pending_task_count() == 0)
    expected = 2 + len(unknown)
    await wait_until(lambda: _all(expected))
    assert len(started) <= len(unknown)


async def test_overloaded_in_an_outage(settings: Any, transactional_db: None) -> None:
    settings.BGTASKS = {**settings.BGTASKS, "MAX_UNWRITTEN": 20}
    runtime = Runtime()
    await runtime.start()
    with lock_writes():
        bgtasks.fire(tasks.succeed, -1)
        await wait_until(lambda: get_journal().outage.is_away)
        accepted = []

        def fire_on() -> None:
            for number in range(100):
                accepted.append(bgtasks.fire(tasks.succeed, number))

        with pytest.raises(bgtasks.Overloaded, match="MAX_UNWRITTEN") as caught:
            fire_on()
        assert caught.value.retry_after > 0
        assert 10 <= len(accepted) <= 20
        with pytest.raises(bgtasks.Overloaded):
            bgtasks.fire(asyncio.sleep(0))
    for handle in accepted:
        assert (await read_row(handle)).status == "SUCCESSFUL"
    await runtime.stop()


async def test_one_bad_record_never_stops_the_rest(runtime: Runtime, monkeypatch: Any, caplog: Any) -> None:
    """The database refuses the row of one task. The others of its batch are written unchanged."""
    build = Statements.insert_row

    def spoil(self: Any, record: Any, entries: Any, *args: Any) -> Any:
        row = list(build(self, record, entries, *args))
        if record.args == (13,) and record.encoded is None:
            # Refused by the column's CHECK, as an unforeseen value would be.
            row[PLAIN.inserted.index("args")] = "this is no JSON"
        return tuple(row)

    monkeypatch.setattr(Statements, "insert_row", spoil)
    with lock_writes():
        handles = [bgtasks.fire(tasks.succeed, number) for number in range(40)]
    rows = [await read_row(handle) for handle in handles]
    assert [row.args for row in rows] == [None if number == 13 else [number] for number in range(40)]
    assert {row.status for row in rows} == {"SUCCESSFUL"}
    reasons = " ".join(entry["why"] for entry in rows[13].transitions)
    assert "its contents could not be recorded: " in reasons


async def test_a_verdict_that_came_first_stands(runtime: Runtime, caplog: Any) -> None:
    """The row got its final state from elsewhere while the task ran. The late end is noted, and the state stands."""
    may_end = asyncio.Event()
    handle = bgtasks.fire(may_end.wait(), name="waits")
    await wait_until(lambda: BackgroundTask.objects.filter(pk=handle.id).aexists())
    await BackgroundTask.objects.filter(pk=handle.id).aupdate(status="LOST", finished_at=timezone.now())
    may_end.set()
    await handle
    await wait_until(lambda: "the row stands" in caplog.text)

    async def is_noted() -> bool:  # The commit comes after the log line.
        row = await BackgroundTask.objects.aget(pk=handle.id)
        assert row.status == "LOST"
        return "came too late: SUCCESSFUL" in row.transitions[-1]["why"]

    await wait_until(is_noted)


async def test_a_lost_answer_to_a_commit_changes_nothing(runtime: Runtime, monkeypatch: Any) -> None:
    """The batch is committed, but the journal gets an error. It writes again, and each row exists once."""
    real = transaction.atomic
    lost = [2]

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

    def lose_the_answer(self: Statements, commit: Any = Statements.commit) -> None:
        commit(self)
        if lost[0]:
            lost[0] -= 1
            raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(statements_base, "transaction", SimpleNamespace(atomic=LosesTheAnswer))
    monkeypatch.setattr(Statements, "commit", lose_the_answer)
    handles = [bgtasks.fire(tasks.sleep, 0.02 * number) for number in range(50)]
    await asyncio.gather(*handles)
    rows = [await read_row(handle) for handle in handles]
    assert {row.status for row in rows} == {"SUCCESSFUL"}
    assert lost == [0]
    assert {len(row.transitions) for row in rows} == {2}
    process = await Process.objects.aget()
    assert process.fired_count == 50


async def test_a_connection_that_breaks_at_the_commit_is_an_outage(runtime: Runtime, monkeypatch: Any) -> None:
    """The driver itself raises there. No caller gets NotRecorded, since the tasks may be stored."""
    broken = [connection.vendor == "postgresql"]

    def break_and_commit(self: Statements, commit: Any = Statements.commit) -> None:
        if broken[0]:
            broken[0] = False
            process = self.connection.connection.info.backend_pid
            databases.query(str(self.connection.settings_dict["NAME"]), f"SELECT pg_terminate_backend({process}, 5000)")
        commit(self)

    given_back: list[Any] = []
    monkeypatch.setattr(Statements, "commit", break_and_commit)
    monkeypatch.setattr(Writer, "_give_back", staticmethod(given_back.extend))
    handles = await asyncio.gather(*(bgtasks.afire(tasks.succeed, number) for number in range(4)))
    assert await asyncio.gather(*handles) == [0, 1, 2, 3]
    assert broken == [False]
    assert given_back == []
    for handle in handles:
        assert (await read_row(handle)).attempt == 1


async def test_a_receiver_that_closes_the_journals_connection(runtime: Runtime, caplog: Any) -> None:
    """Code in threads closes connections to be clean. The rest of the round is written all the same."""

    def close(**details: Any) -> None:
        connection.close()

    task_fired.connect(close)
    try:
        fired = [bgtasks.fire(tasks.succeed, number) for number in range(50)]
        recorded = await asyncio.gather(*(bgtasks.afire(tasks.succeed, number) for number in range(50)))
        await asyncio.gather(*fired, *recorded)
        await wait_until(lambda: _all(100))
    finally:
        task_fired.disconnect(close)
    assert "cannot be recorded" not in caplog.text


READ_ONLY = {
    "sqlite": "PRAGMA query_only = 1",
    "postgresql": "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "mysql": "SET SESSION TRANSACTION READ ONLY",
}


async def test_a_database_that_may_only_be_read_is_an_outage(runtime: Runtime, caplog: Any) -> None:
    """The address leads to a replica for a while. That is no fault of the records, and none loses its contents."""

    def make_session_read_only() -> None:
        with connection.cursor() as cursor:
            cursor.execute(READ_ONLY[connection.vendor])
        is_read_only.set()

    is_read_only = threading.Event()
    get_journal().submit(make_session_read_only)
    await asyncio.to_thread(is_read_only.wait, 10)
    handles = [bgtasks.fire(tasks.succeed, number) for number in range(20)]
    rows = [await read_row(handle) for handle in handles]
    assert "does not take records" in caplog.text
    assert [(row.status, row.args) for row in rows] == [("SUCCESSFUL", [number]) for number in range(20)]


async def test_a_missing_table_says_migrate(runtime: Runtime, caplog: Any) -> None:
    table = BackgroundTask._meta.db_table

    def rename(one: str, other: str) -> None:
        databases.query(str(connection.settings_dict["NAME"]), f"ALTER TABLE {one} RENAME TO {other}")

    await asyncio.to_thread(rename, table, "gone")
    try:
        handle = bgtasks.fire(tasks.succeed, 1)
        assert await handle == 1
        await wait_until(lambda: "manage.py migrate" in caplog.text)
    finally:
        await asyncio.to_thread(rename, "gone", table)
    assert (await read_row(handle)).status == "SUCCESSFUL"


async def test_the_beat_goes_on_while_nothing_happens(runtime: Runtime) -> None:
    process = await _read_process()
    await wait_until(lambda: _beat_is_at_least(process.beat + 2))
    process = await _read_process()
    assert process.state == "ALIVE"
    assert process.has_lifespan
    assert process.loop_seen_at is not None
    assert process.loop_lag is not None
    assert process.memory > 1_000_000


async def test_the_beat_counts_the_open_connections_of_its_own_threads(runtime: Runtime) -> None:
    """Connections in use count too; the one of the test's own thread does not."""
    asked, answer = threading.Event(), threading.Event()

    @bgtasks.task(name="ask in a thread")
    def ask_in_thread() -> None:
        BackgroundTask.objects.exists()
        asked.set()
        assert answer.wait(60)

    await wait_until(lambda: _connections_are(1))  # That of the journal.
    handle = bgtasks.fire(ask_in_thread)
    await asyncio.to_thread(asked.wait, 60)
    lane = bgtasks.fire(tasks.use_orm, 1, 60.0)
    try:
        await wait_until(lambda: _connections_are(3))
    finally:
        answer.set()
        lane.cancel()
    await handle

    await wait_until(lambda: _connections_are(1))


async def test_a_process_lists_the_functions_that_it_knows(runtime: Runtime) -> None:
    """Functions that are declared later are included."""
    known = (await _read_process()).functions
    assert "tests.app.tasks.succeed" in known
    assert "late" not in known

    bgtasks.task(name="late", aliases=["earlier"])(_nothing)

    async def is_listed() -> bool:
        return {"late", "earlier"} <= set((await _read_process()).functions)

    await wait_until(is_listed)


async def _nothing() -> None: ...


async def test_the_beat_goes_on_while_the_loop_is_blocked(runtime: Runtime) -> None:
    before = (await _read_process()).beat
    name = str(connection.settings_dict["NAME"])

    def has_beaten() -> bool:
        return databases.query(name, "SELECT beat FROM bgtasks_process")[0]["beat"] >= before + 2

    wait_for(has_beaten, "two beats")  # On purpose: it blocks the loop.


async def _connections_are(count: int) -> bool:
    return (await _read_process()).connections == count


async def _read_process() -> Process:
    await wait_until(lambda: Process.objects.aexists())
    return await Process.objects.aget()


async def _beat_is_at_least(beat: int) -> bool:
    return (await Process.objects.aget()).beat >= beat


class ServiceThatFails:
    """Fails from the stop of the journal on."""

    def seconds_until_due(self, now: float) -> float:
        if get_journal()._state.is_stopped:
            raise RuntimeError("broken service")
        return 60.0


@pytest.fixture
def brief(settings: Any) -> None:
    """A drain that does not wait for a journal that has stopped."""
    settings.BGTASKS = {**settings.BGTASKS, "DRAIN_TIMEOUT": 0.2, "CANCEL_GRACE": 0.1, "FLUSH_TIMEOUT": 0.1}


async def test_a_service_keeps_nothing_from_being_written_at_the_stop(brief: None, runtime: Runtime) -> None:
    journal = get_journal()
    journal.services = (*journal.services, ServiceThatFails())
    is_busy, may_go_on = threading.Event(), threading.Event()
    journal.submit(lambda: (is_busy.set(), may_go_on.wait(10)))
    await asyncio.to_thread(is_busy.wait, 10)
    handles = [bgtasks.fire(tasks.succeed, number) for number in range(3)]
    await asyncio.gather(*handles)

    stop = asyncio.create_task(asyncio.to_thread(journal.stop, time.monotonic() + 10))
    await wait_until(lambda: journal._state.is_stopped)
    may_go_on.set()
    await stop

    assert await _all(3)


async def test_signals_after_the_commit(runtime: Runtime) -> None:
    seen: list[tuple[str, Any]] = []

    def receive(what: str) -> Any:
        def receiver(sender: Any, **details: Any) -> None:
            committed = BackgroundTask.objects.filter(pk=details["task_id"]).exists()
            seen.append((what, (sender, details["status"], details["previous"], details["attempt"], committed)))

        return receiver

    receivers = {signal: receive(what) for what, signal in SIGNALS.items()}
    for signal, receiver in receivers.items():
        signal.connect(receiver)
    try:
        handle = bgtasks.fire(tasks.sleep, 0.1)
        await handle
        await wait_until(lambda: len(seen) == 3)
    finally:
        for signal, receiver in receivers.items():
            signal.disconnect(receiver)
    assert seen == [
        ("fired", (tasks.sleep, "RUNNING", None, 1, True)),
        ("started", (tasks.sleep, "RUNNING", None, 1, True)),
        ("finished", (tasks.sleep, "SUCCESSFUL", "RUNNING", 1, True)),
    ]


SIGNALS = {"fired": task_fired, "started": task_started, "finished": task_finished}


async def test_a_receiver_that_raises_stops_no_task(runtime: Runtime) -> None:
    def fail(**kwargs: Any) -> None:
        raise RuntimeError("broken receiver")

    task_finished.connect(fail)
    try:
        for _ in range(3):
            assert (await read_row(bgtasks.fire(tasks.succeed))).status == "SUCCESSFUL"
    finally:
        task_finished.disconnect(fail)


async def test_a_row_deleted_while_its_task_runs(runtime: Runtime, caplog: Any) -> None:
    may_end = asyncio.Event()
    handle = bgtasks.fire(may_end.wait(), name="waits")
    await wait_until(lambda: BackgroundTask.objects.filter(pk=handle.id).aexists())
    await BackgroundTask.objects.filter(pk=handle.id).adelete()
    may_end.set()
    await handle
    await wait_until(lambda: "was deleted while it was live" in caplog.text)
    assert (await read_row(bgtasks.fire(tasks.succeed))).status == "SUCCESSFUL"


async def test_without_time_zones(settings: Any, transactional_db: None) -> None:
    settings.USE_TZ = False
    await sync_to_async(connections.close_all)()  # A connection to PostgreSQL keeps its time zone.
    runtime = Runtime()
    await runtime.start()
    row = await read_row(bgtasks.fire(tasks.succeed))
    finished = row.finished_at
    if timezone.is_aware(finished):  # A PostgreSQL connection from before the change returns it so.
        finished = timezone.make_naive(finished, timezone.get_default_timezone())
    assert abs((timezone.now() - finished).total_seconds()) < 10
    await runtime.stop()
    await sync_to_async(connections.close_all)()


async def test_afire_of_what_is_stored_is_no_error_however_late_the_answer(settings: Any, runtime: Runtime) -> None:
    """The started task blocks the loop for longer than WRITE_TIMEOUT."""
    await runtime.stop()
    settings.BGTASKS = {**settings.BGTASKS, "WRITE_TIMEOUT": 0.3}
    await runtime.start()
    handles = await asyncio.gather(*[bgtasks.afire(tasks.block, 0.4) for _ in range(3)])
    await asyncio.gather(*handles)
    assert {(await read_row(handle)).status for handle in handles} == {"SUCCESSFUL"}
