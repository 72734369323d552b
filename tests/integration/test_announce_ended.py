"""Tasks that end outside the journal of their process are counted in the rollups once, and announced once."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import DatabaseError, transaction
from django.test import Client
from django.utils import timezone

import bgtasks
from bgtasks.api import get_runner
from bgtasks.maintenance import rollup_writer
from bgtasks.models import BackgroundTask, Process, Rollup
from bgtasks.operations.announce_ended import announcing
from bgtasks.reports import rollups
from bgtasks.signals import task_finished
from bgtasks.status import Status
from bgtasks.transitions import cancel
from tests.app import tasks
from tests.conftest import Runtime, wait_until
from tests.totals import total_of

OVERVIEW = "/admin/bgtasks/overview/"
LATER = timedelta(hours=1)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollup_writer, "EVERY", 0.05)


@pytest.fixture
def finished() -> Iterator[list[dict[str, Any]]]:
    """The arguments of each `task_finished`."""
    announced: list[dict[str, Any]] = []

    def hear(sender: Any, signal: Any, **details: Any) -> None:
        announced.append({"sender": sender, **details})

    task_finished.connect(hear)
    yield announced
    task_finished.disconnect(hear)


@pytest.fixture
def root(transactional_db: None) -> Client:
    return log_in_root()


def log_in_root() -> Client:
    client = Client()
    client.force_login(User.objects.create(username="root", is_staff=True, is_superuser=True))
    return client


def make_task(name: str = "tests.app.tasks.succeed", **more: Any) -> BackgroundTask:
    return BackgroundTask.objects.create(name=name, **({"created_at": timezone.now()} | more))


def make_lost(count: int) -> list[BackgroundTask]:
    now = timezone.now()
    dead = Process.objects.create(host="web-1", pid=1, started_at=now, state=Process.State.DEAD)
    values = {"status": Status.RUNNING, "process": dead.pk, "started_at": now, "attempt": 1}
    return [make_task(**values) for _ in range(count)]


def read_each() -> list[dict[str, int]]:
    """Return the counts of each resolution."""
    now = timezone.now()
    return [dict(total_of(rollups.read("default", each, now, LATER)).statuses) for each in Rollup.Resolution]


def read_counts() -> dict[str, int]:
    counts, *others = read_each()
    assert all(other == counts for other in others)
    return counts


async def wait_for_counts(**wanted: int) -> None:
    """Wait until these are counted; assert that the next task of the runtime counts none of them again."""

    async def are_counted() -> bool:
        return await sync_to_async(read_each)() == [wanted] * len(Rollup.Resolution)

    await wait_until(are_counted)
    await bgtasks.fire(tasks.succeed)
    wanted["SUCCESSFUL"] = wanted.get("SUCCESSFUL", 0) + 1
    await wait_until(are_counted)


def tile_of(client: Client, name: str) -> str:
    body = client.get(OVERVIEW).content.decode()
    found = re.search(rf'bgtasks-tile-{name}\b.*?bgtasks-tile-value">\s*(\S+?)\s*</span>', body, re.DOTALL)
    assert found
    return found[1]


def act(client: Client, action: str, *rows: BackgroundTask) -> None:
    chosen = [str(row.pk) for row in rows]
    address = f"/admin/bgtasks/{action}"
    client.post(address, {"task": chosen, "_selected_action": chosen, "do": "cancel"})


# In a process that runs no tasks.


def test_the_overview_agrees_with_verdicts_given_in_the_admin(root, finished):
    rows = make_lost(3)

    act(root, "stucktask/apply/", *rows[:2])
    act(root, "stucktask/apply/", *rows[:2])  # They have their verdict already.

    assert tile_of(root, "lost") == "2"
    assert read_counts() == {"LOST": 2}
    assert [(each["task_id"], each["status"], each["previous"]) for each in finished] == [
        (row.pk, Status.LOST, Status.RUNNING) for row in rows[:2]
    ]
    assert {(each["sender"], each["process_id"]) for each in finished} == {(tasks.succeed, None)}
    newest = total_of(rollups.read("default", rollups.MINUTE, timezone.now(), LATER)).failed
    assert newest == str(rows[1].pk)


@pytest.mark.parametrize("action", ["stucktask/cancel/", "livetask/act/", "backgroundtask/ask/cancel_tasks/"])
def test_what_waits_and_is_cancelled_in_the_admin_is_counted_once(root, finished, action):
    rows = [make_task() for _ in range(3)]
    running = make_lost(1)

    act(root, action, *rows, *running)  # The running task is only asked to stop.
    act(root, action, *rows)

    assert BackgroundTask.objects.filter(status=Status.CANCELLED).count() == 3
    assert read_counts() == {"CANCELLED": 3}
    assert Rollup.objects.count() == len(Rollup.Resolution)  # One row for all that are cancelled at once.
    assert Counter(each["task_id"] for each in finished) == Counter(row.pk for row in rows)


def test_the_button_of_a_task_counts_too(root, finished):
    row = make_task()

    root.post(f"/admin/bgtasks/backgroundtask/{row.pk}/cancel/")

    assert read_counts() == {"CANCELLED": 1}
    assert len(finished) == 1


def test_a_verdict_of_the_command_is_counted(transactional_db, settings, finished):
    settings.BGTASKS = {**settings.BGTASKS, "HEARTBEAT": 0.5, "DEAD_AFTER": 1}
    make_lost(2)

    call_command("stuck_tasks", "--apply")

    assert read_counts() == {"LOST": 2}
    assert len(finished) == 2


def test_what_is_rolled_back_is_not_counted(transactional_db, finished):
    row = make_task()

    with transaction.atomic(), announcing("default") as ended:
        cancel("default", row.pk, "test", "test", ended=ended)
        transaction.set_rollback(True)

    assert read_counts() == {}
    assert finished == []


def test_what_cannot_be_counted_is_done_all_the_same(root, monkeypatch, caplog):
    row = make_task()

    def fail(*args: Any) -> None:
        raise DatabaseError("no such table")

    monkeypatch.setattr(rollup_writer.RollupBucket, "write", fail)
    act(root, "stucktask/cancel/", row)

    row.refresh_from_db()
    assert row.status == Status.CANCELLED
    assert "no such table" in caplog.text


# In a process that runs tasks.


async def test_the_journal_counts_what_is_cancelled_in_the_admin_of_its_process(runtime: Runtime, finished) -> None:
    waiting = await bgtasks.afire(tasks.succeed.using(run_after=LATER))

    @sync_to_async
    def cancel_in_admin() -> None:
        act(log_in_root(), "backgroundtask/ask/cancel_tasks/", BackgroundTask(pk=waiting.id))

    await cancel_in_admin()

    await wait_for_counts(CANCELLED=1)
    own = get_runner().state.id
    assert [each["process_id"] for each in finished if each["task_id"] == waiting.id] == [own]
    assert {row.process async for row in Rollup.objects.all()} == {own}


async def test_a_handle_that_cancels_what_waits_in_the_table(runtime: Runtime, finished) -> None:
    waiting = await bgtasks.afire(tasks.succeed.using(run_after=LATER))
    waiting.cancel()
    with pytest.raises(bgtasks.TaskCancelled):
        await waiting.wait(timeout=20)

    await wait_for_counts(CANCELLED=1)
    assert [each["status"] for each in finished if each["task_id"] == waiting.id] == ["CANCELLED"]


@pytest.mark.parametrize("where", ["loop", "transaction"])
async def test_what_lost_its_key_to_another(runtime: Runtime, finished, where: str) -> None:
    waiting = await bgtasks.afire(tasks.succeed.using(key="k", run_after=LATER))
    again = tasks.succeed.using(key="k", on_conflict="replace")

    def fire_in_transaction() -> None:
        with transaction.atomic():
            bgtasks.fire(again)

    if where == "loop":
        await bgtasks.fire(again)
    else:
        await sync_to_async(fire_in_transaction)()

    await wait_for_counts(CANCELLED=1, SUCCESSFUL=1)
    assert [each["status"] for each in finished if each["task_id"] == waiting.id] == ["CANCELLED"]


async def test_a_finish_that_comes_too_late_is_not_counted(runtime: Runtime, finished, caplog) -> None:
    """The row stands, and its verdict was counted when it was given."""
    may_end = asyncio.Event()

    @bgtasks.task(name="waits")
    async def wait() -> None:
        await may_end.wait()

    handle = bgtasks.fire(wait)
    await wait_until(lambda: BackgroundTask.objects.filter(pk=handle.id).aexists())
    await BackgroundTask.objects.filter(pk=handle.id).aupdate(status="LOST", finished_at=timezone.now())
    may_end.set()
    await wait_until(lambda: "the row stands" in caplog.text)

    await wait_for_counts()
    assert [each for each in finished if each["task_id"] == handle.id] == []
