"""The ledger and its audit; each check must be able to fail."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.management import call_command
from django.db import connection, transaction
from django.utils import timezone

import bgtasks
from bgtasks.conf import get_settings
from bgtasks.maintenance.pruner import Retention
from bgtasks.models import BackgroundTask, Ledger, Process
from bgtasks.reports.audit import Audit, Auditor
from bgtasks.uuid7 import first_id_of, uuid7
from tests.app import tasks
from tests.conftest import Runtime, read_row, wait_until


async def audit() -> Audit:
    def run() -> Audit:
        found = Auditor("default", get_settings()).audit()
        connection.close()
        return found

    return await asyncio.to_thread(run)


async def execute(statement: str) -> int:
    """Change rows without bgtasks' knowledge."""

    def run() -> int:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            count = int(cursor.rowcount)
        connection.close()
        return count

    return await asyncio.to_thread(run)


async def fire_and_wait(count: int) -> list[Any]:
    handles = [bgtasks.fire(tasks.succeed, number) for number in range(count)]
    return [await read_row(handle) for handle in handles]


async def test_a_sound_table(runtime: Runtime) -> None:
    await fire_and_wait(30)
    running = bgtasks.fire(tasks.sleep, 0.5)
    failed = bgtasks.fire(tasks.fail)
    await read_row(failed)
    found = await audit()
    assert (found.fired, found.rows, found.gone, found.unaccounted) == (32, 32, 0, 0)
    assert found.problems == []
    assert found.by_status == {"FAILED": 1, "RUNNING": 1, "SUCCESSFUL": 30}
    await running


async def test_a_row_deleted_behind_its_back(runtime: Runtime) -> None:
    [row, *_] = await fire_and_wait(3)
    assert await execute(f"DELETE FROM bgtasks_backgroundtask WHERE name = '{row.name}'") == 3
    found = await audit()
    assert found.unaccounted == 3
    assert [(problem.kind, problem.count) for problem in found.problems] == [("balance", 3)]


async def test_a_row_that_was_never_fired(runtime: Runtime) -> None:
    history = [{"status": "READY", "at": "2026-01-01", "attempt": 0, "by": "", "why": ""}]
    await BackgroundTask.objects.acreate(name="unknown", created_at=timezone.now(), origin=uuid7(), transitions=history)
    found = await audit()
    assert (found.unaccounted, found.problems[0].kind) == (-1, "balance")


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ("status = 'FAILED'", "history"),
        ("transitions = '[]'", "history"),
        ("finished_at = NULL", "state"),
        ("live_key = 'kept'", "state"),
        ("status = 'RUNNING', process = NULL", "process"),
    ],
)
async def test_a_forged_row(runtime: Runtime, change: str, kind: str) -> None:
    [row] = await fire_and_wait(1)
    await execute(f"UPDATE bgtasks_backgroundtask SET {change}")
    found = await audit()
    [problem] = [problem for problem in found.problems if problem.kind == kind]
    assert problem.count == 1
    assert problem.tasks == [f"{row.name} {row.pk}"]


async def test_what_is_pruned_or_deleted_is_in_the_ledger(runtime: Runtime) -> None:
    """Rows of tasks and processes are deleted by the pruner, a queryset or `delete` of a row."""
    rows = await fire_and_wait(8)
    long_ago = timezone.now() + timedelta(days=400)

    @sync_to_async(thread_sensitive=False)
    def delete() -> None:
        rows[0].delete()
        assert BackgroundTask.objects.filter(pk__in=[row.pk for row in rows[1:4]]).delete()[0] == 3
        assert Retention("default", get_settings(), long_ago).prune_batch(100)["SUCCESSFUL"] == 4
        ended = Process.objects.create(
            host="a", pid=1, started_at=timezone.now(), stopped_at=timezone.now(), state="STOPPED", fired_count=0
        )
        Process.objects.filter(pk=ended.pk).update(fired_count=5)
        for number in range(5):
            BackgroundTask.objects.create(
                name=f"of {number}", created_at=timezone.now(), origin=ended.pk,
                transitions=[{"status": "READY", "attempt": 0}],
            )  # fmt: skip
        assert sum(batch["processes"] for batch in Retention("default", get_settings(), long_ago).prune()) == 1
        connection.close()

    await delete()
    found = await audit()
    assert (found.fired, found.rows, found.gone) == (13, 5, 8)
    assert found.problems == []
    ledger = await Ledger.objects.aget()
    assert (ledger.fired_count, ledger.gone_count) == (5, 8)


async def test_a_task_recorded_in_a_transaction_is_counted_by_the_claiming_process(runtime: Runtime) -> None:
    @sync_to_async(thread_sensitive=False)
    def fire_in_transaction() -> Any:
        with transaction.atomic():
            handle = bgtasks.fire(tasks.succeed, 1)
            row = BackgroundTask.objects.get(pk=handle.id)
            assert row.origin is None
            found = Auditor("default", get_settings()).audit()
            assert (found.fired, found.rows, found.waiting_to_be_counted, found.problems) == (0, 0, 1, [])
        connection.close()
        return handle

    row = await read_row(await fire_in_transaction())
    assert row.origin == row.process
    assert (await Process.objects.aget()).fired_count == 1
    found = await audit()
    assert (found.fired, found.rows, found.waiting_to_be_counted, found.problems) == (1, 1, 0, [])


async def test_live_rows_of_a_process_that_is_gone(runtime: Runtime) -> None:
    handle = bgtasks.fire(tasks.sleep, 3600)
    await wait_until(lambda: BackgroundTask.objects.filter(pk=handle.id, status="RUNNING").aexists())
    await bgtasks.drain(0)
    await runtime.stop()
    just_now, long_ago = timezone.now(), timezone.now() - timedelta(hours=1)
    history = [{"status": "RUNNING", "attempt": 1}]
    unknown = await BackgroundTask.objects.acreate(
        name="unknown", created_at=long_ago, status="RUNNING", process=uuid7(), transitions=history
    )
    for stopped_at in (just_now, long_ago):
        process = await Process.objects.acreate(
            host="a", pid=1, started_at=long_ago, stopped_at=stopped_at, state="DEAD"
        )
        await BackgroundTask.objects.acreate(
            name=f"{stopped_at}", created_at=long_ago, status="RUNNING", process=process.pk, transitions=history
        )
    silent = await Process.objects.acreate(host="b", pid=2, started_at=long_ago, beat_at=long_ago, beat=7)
    await BackgroundTask.objects.acreate(
        name="silent", created_at=long_ago, status="RUNNING", process=silent.pk, transitions=history
    )
    found = await audit()
    assert found.being_rescued == 1
    problems = {problem.tasks[0].rsplit(" ", 1)[0]: problem.what for problem in found.problems}
    assert problems.keys() == {"unknown", f"{long_ago}", "silent"}
    assert "does not beat" in problems["silent"]
    assert f"unknown {unknown.pk}" in [task for problem in found.problems for task in problem.tasks]


async def test_a_clock_that_is_wrong_is_no_silence(runtime: Runtime) -> None:
    """The clock of a process is an hour late. It beats, so it lives."""
    handle = bgtasks.fire(tasks.sleep, 3600)
    await wait_until(lambda: BackgroundTask.objects.filter(pk=handle.id, status="RUNNING").aexists())
    is_set_back, over = asyncio.Event(), asyncio.Event()

    async def set_back() -> None:
        while not over.is_set():
            await Process.objects.aupdate(beat_at=timezone.now() - timedelta(hours=1))
            is_set_back.set()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), 0.02)  # More often than the process beats.

    setting = asyncio.create_task(set_back())
    await is_set_back.wait()
    found = await audit()
    over.set()
    await setting
    assert found.problems == []
    handle.cancel()


@pytest.mark.django_db(transaction=True)
def test_the_command() -> None:
    process = Process.objects.create(host="a", pid=1, started_at=timezone.now(), state="STOPPED")
    Process.objects.update(fired_count=2)
    BackgroundTask.objects.create(
        name="there", created_at=timezone.now(), origin=process.pk, transitions=[{"status": "READY"}]
    )
    out = io.StringIO()
    with pytest.raises(SystemExit) as caught:
        call_command("audit_tasks", "--format", "json", stdout=out)
    assert caught.value.code == 1
    document = json.loads(out.getvalue())
    assert (document["ok"], document["fired"], document["rows"], document["unaccounted"]) == (False, 2, 1, 1)
    assert document["problems"][0]["kind"] == "balance"
    out = io.StringIO()
    with pytest.raises(SystemExit):
        call_command("audit_tasks", stdout=out)
    assert "1 task fired, and neither in the table nor gone." in out.getvalue()
    Process.objects.update(fired_count=1)
    out = io.StringIO()
    call_command("audit_tasks", "--wait", "5", stdout=out)
    assert "Everything holds." in out.getvalue()


@pytest.mark.django_db(transaction=True)
def test_the_command_since_a_while() -> None:
    now = timezone.now()
    for age, status in ((7200, "FAILED"), (60, "READY")):
        moment = now - timedelta(seconds=age)
        # Both histories end in READY, which contradicts the status of the older row.
        BackgroundTask.objects.create(
            id=first_id_of(moment),
            name="a",
            status=status,
            created_at=moment,
            finished_at=None,
            transitions=[{"status": "READY"}],
        )
    out = io.StringIO()
    call_command("audit_tasks", "--since", "3600", "--format", "json", stdout=out)
    document = json.loads(out.getvalue())
    assert (document["ok"], document["by_status"]) == (True, {"READY": 1})
    assert [document[name] for name in ("fired", "gone", "unaccounted")] == [None] * 3
    out = io.StringIO()
    call_command("audit_tasks", "--since", "3600", stdout=out)
    assert "Everything that was checked holds." in out.getvalue()
    assert "Unaccounted" not in out.getvalue()
    for age in ("7300", "1e300"):
        out = io.StringIO()
        with pytest.raises(SystemExit):
            call_command("audit_tasks", "--since", age, stdout=out)
        assert "1 task whose history ends with another status." in out.getvalue()
