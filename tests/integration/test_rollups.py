"""Rollups of finished tasks, counted by each process and summed for the pictures."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.utils import timezone

import bgtasks
from bgtasks.api import get_runner
from bgtasks.journal import tally
from bgtasks.maintenance import rollup_writer
from bgtasks.maintenance.rollup_writer import prune
from bgtasks.models import Rollup
from bgtasks.models.histogram import quantile
from bgtasks.reports import rollups
from bgtasks.status import Status
from bgtasks.transitions import Verdict
from tests.app import tasks
from tests.conftest import Runtime, read_row, wait_until

HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollup_writer, "EVERY", 0.05)


def read_totals() -> dict[str, rollups.Total]:
    return rollups.total_by_name(rollups.read("default", rollups.MINUTE, timezone.now(), HOUR))


async def wait_for_counts(name: str, wanted: dict[str, int]) -> rollups.Total:
    found: dict[str, Any] = {}

    async def is_there() -> bool:
        found.update(await asyncio.to_thread(_read_and_close))
        return name in found and found[name].statuses == wanted

    await wait_until(is_there)
    return found[name]


def _read_and_close() -> dict[str, rollups.Total]:
    try:
        return read_totals()
    finally:
        connection.close()


async def test_what_ended_is_counted_in_each_resolution(runtime: Runtime) -> None:
    handles = [bgtasks.fire(tasks.succeed, number) for number in range(20)]
    handles += [bgtasks.fire(tasks.fail) for _ in range(3)]
    await asyncio.gather(*handles, return_exceptions=True)
    await bgtasks.fire(tasks.sleep, 0.2)

    slept = await wait_for_counts("tests.app.tasks.sleep", {"SUCCESSFUL": 1})
    ended = await wait_for_counts("tests.app.tasks.succeed", {"SUCCESSFUL": 20})
    failed = await wait_for_counts("tests.app.tasks.fail", {"FAILED": 3})

    assert ended.measured == 20
    assert sum(ended.waited.values()) == 20
    assert failed.measured == 3
    assert quantile(slept.took, 0.5) == pytest.approx(0.2, rel=0.3)
    rows = [row async for row in Rollup.objects.all()]
    assert {row.resolution for row in rows} == set(Rollup.Resolution)
    assert {row.process for row in rows} == {get_runner().state.id}


async def test_each_is_counted_once_however_often_it_is_written(runtime: Runtime) -> None:
    """A retry is an attempt of the same task. The process in which a claimed row ends counts it."""
    handle = bgtasks.fire(tasks.fail.using(max_attempts=3, backoff_first=0.01))
    with pytest.raises(bgtasks.TaskFailed):
        await handle.wait(timeout=20)
    assert (await read_row(handle)).attempt == 3

    total = await wait_for_counts("tests.app.tasks.fail", {"FAILED": 1})

    assert total.measured == 1
    assert total.waited == {}  # Only a first start waits for a slot.


async def test_the_last_ones_are_written_by_the_drain(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollup_writer, "EVERY", 3600.0)
    await bgtasks.fire(tasks.succeed, 1)
    bgtasks.fire(tasks.succeed, 2)

    await runtime.stop()

    assert sum(total.count for total in (await asyncio.to_thread(_read_and_close)).values()) == 2


async def test_an_answer_that_gets_lost_counts_nothing_twice(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole row is written, so the writer repeats it."""
    write, lost, is_answered = rollup_writer.RollupBucket.write, [0], threading.Event()

    def lose(self: Any, using: str) -> None:
        write(self, using)
        if lost[0] < 3:
            lost[0] += 1
            raise RuntimeError("lost")
        is_answered.set()

    monkeypatch.setattr(rollup_writer.RollupBucket, "write", lose)
    await asyncio.gather(*[bgtasks.fire(tasks.succeed, number) for number in range(5)])

    await wait_for_counts("tests.app.tasks.succeed", {"SUCCESSFUL": 5})
    await wait_until(is_answered.is_set)
    assert (await asyncio.to_thread(_read_and_close))["tests.app.tasks.succeed"].statuses == {"SUCCESSFUL": 5}


async def test_a_missing_table_prevents_no_record(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    """As after the roll-out of a release before its migration."""

    def rename(old: str, new: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {old} RENAME TO {new}")
        connection.close()

    await asyncio.to_thread(rename, "bgtasks_rollup", "bgtasks_rollup_gone")
    try:
        handle = bgtasks.fire(tasks.succeed, 1)
        await wait_until(lambda: "pictures" in caplog.text)
        assert (await read_row(handle)).status == "SUCCESSFUL"
        other = bgtasks.fire(tasks.succeed, 2)
        assert (await read_row(other)).status == "SUCCESSFUL"
        assert not get_runner().journal.outage.is_away
    finally:
        await asyncio.to_thread(rename, "bgtasks_rollup_gone", "bgtasks_rollup")


async def test_names_without_end_are_counted_together(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (tally, rollup_writer):
        monkeypatch.setattr(module, "MAX_NAMES", 5)

    async def nothing() -> None: ...

    await asyncio.gather(*[bgtasks.fire(nothing(), name=f"each {number}") for number in range(40)])

    async def is_there() -> bool:
        totals = await asyncio.to_thread(_read_and_close)
        return sum(total.count for total in totals.values()) == 40 and len(totals) <= 6 and tally.OTHERS in totals

    await wait_until(is_there)


# Reading.


def make(starts_at: Any, resolution: int = 60, **tasks: Any) -> Rollup:
    return Rollup.objects.create(process=uuid4(), resolution=resolution, starts_at=starts_at, tasks=tasks)


def counts(took: dict[int, int] | None = None, **statuses: int) -> dict[str, Any]:
    return {"statuses": statuses, "took": took or {}, "waited": {}}


@pytest.mark.django_db
def test_what_several_processes_counted_is_added_up() -> None:
    now = timezone.now().replace(second=30, microsecond=0)
    minute = now.replace(second=0)
    make(minute, a=counts({10: 2}, SUCCESSFUL=2))
    make(minute, a=counts({10: 1, 12: 1}, SUCCESSFUL=1, FAILED=1), b=counts(LOST=1))
    make(minute - timedelta(minutes=2), a=counts(FAILED=4))
    make(minute - timedelta(hours=2), a=counts(FAILED=100))

    buckets = rollups.read("default", rollups.MINUTE, now, HOUR)
    totals = rollups.total_by_name(buckets)
    by_bucket = rollups.total_by_bucket(buckets, rollups.MINUTE, now, HOUR)

    assert totals["a"].statuses == {"SUCCESSFUL": 3, "FAILED": 5}
    assert totals["a"].took == {10: 3, 12: 1}
    assert totals["b"].statuses == {"LOST": 1}
    assert len(by_bucket) == 60
    assert by_bucket[-1][0] == minute
    assert [total.count for _, total in by_bucket[-3:]] == [4, 0, 5]
    assert sum(total.count for total in rollups.total_by_name(buckets).values()) == 9


@pytest.mark.django_db
def test_old_ones_are_pruned() -> None:
    now = timezone.now()
    for resolution, kept, gone in ((60, 3.9, 4.1), (1800, 95, 97), (7200, 215, 217)):
        make(now - timedelta(hours=kept), resolution)
        make(now - timedelta(hours=gone), resolution)

    prune("default", now)

    left = [round((now - row.starts_at) / HOUR, 1) for row in Rollup.objects.order_by("resolution")]
    assert left == [3.9, 95, 215]


@pytest.mark.parametrize("status", [Status.LOST, Status.CANCELLED])
def test_a_verdict_is_counted_by_who_gave_it(status: Status) -> None:
    counted, id_ = tally.Tally(), uuid4()

    counted.count_verdict(Verdict(id_, "a", Status.RUNNING, status, 1))

    found = counted.take()["a"].as_json()
    assert found["statuses"] == {status: 1}
    assert found.get("failed") == (str(id_) if status is Status.LOST else None)
    assert counted.take() == {}
    assert counted.writes == 1


def test_the_newest_failure_is_reported() -> None:
    """A process may have written its rollup before its first failure."""
    old, new = sorted(str(uuid4()) for _ in range(2))
    failures = [{"failed": new}, {}, {"failed": old}]
    buckets = [rollups.Bucket(timezone.now(), uuid4(), {"a": counts() | each}, None) for each in failures]

    assert rollups.total_by_name(buckets)["a"].failed == new
