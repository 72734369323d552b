"""The spool without the journal's thread, and a folder that other users may write to."""

from __future__ import annotations

import asyncio
import os
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.apps import apps
from django.db import OperationalError
from django.utils import timezone

import bgtasks
from bgtasks import signals
from bgtasks.conf import Settings
from bgtasks.journal import spool
from bgtasks.journal.writer import Writer
from bgtasks.maintenance import rollup_writer, spool_reader
from bgtasks.models import BackgroundTask, Process
from bgtasks.process.record import Record
from bgtasks.reports import rollups
from tests.app import tasks
from tests.conftest import Runtime, read_row, wait_until
from tests.totals import total_of


@pytest.fixture
def own_spool(settings: Any, tmp_path: Path) -> None:
    """A spool of the test's own, and a drain that does not wait for a journal that hangs."""
    short = {"DRAIN_TIMEOUT": 0.2, "CANCEL_GRACE": 0.1, "FLUSH_TIMEOUT": 0.1}
    settings.BGTASKS = {**settings.BGTASKS, **short, "SPOOL_PATH": str(tmp_path)}


async def test_a_thread_that_hangs_takes_nothing_along(own_spool: None, runtime: Runtime, tmp_path: Path) -> None:
    """The database does not answer. Another thread spools the journal's records, and the next start reads them."""
    journal = apps.get_app_config("bgtasks").runtime.journal
    first = bgtasks.fire(tasks.succeed, 0)
    await read_row(first)
    hangs, may_go_on = threading.Event(), threading.Event()
    journal.submit(lambda: (hangs.set(), may_go_on.wait(60)))
    await wait_until(hangs.is_set)
    handles = [bgtasks.fire(tasks.succeed, number) for number in range(5)]
    assert [await handle for handle in handles] == list(range(5))
    journal.stop(0.0)
    [path] = tmp_path.glob("*.jsonl")
    records = [spool.decode(line, {})[2] for line in path.read_text().splitlines()]
    assert {record.id for record in records} == {handle.id for handle in handles}
    kept = path.read_text()
    may_go_on.set()
    journal._thread.join(20)  # It writes them after all, and none is stored twice.
    await runtime.stop()
    path.write_text(kept)
    await runtime.start()
    await wait_until(lambda: not list(tmp_path.glob("*")))
    assert await BackgroundTask.objects.filter(status="SUCCESSFUL").acount() == 6
    assert sum([row.fired_count async for row in Process.objects.all()]) == 6


class WriterThatFailsOnce(Writer):
    """Its second batch fails, as in an outage."""

    calls = 0

    def write(self, records: list[Record]) -> None:
        type(self).calls += 1
        if self.calls == 2:
            raise OperationalError("away")
        super().write(records)


@pytest.mark.parametrize("fails", [False, True])
async def test_a_process_that_was_never_registered(
    own_spool: None, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """The database was away for all its life. The process that reads its spool counts those tasks, once."""
    monkeypatch.setattr(rollup_writer, "EVERY", 0.2)
    if fails:
        monkeypatch.setattr(WriterThatFailsOnce, "calls", 0)
        monkeypatch.setattr(spool_reader, "Writer", WriterThatFailsOnce)
        monkeypatch.setattr(spool_reader, "BATCH", 2)
        monkeypatch.setattr(spool_reader, "EVERY", 0.2)
    journal = apps.get_app_config("bgtasks").runtime.journal
    hangs, may_go_on = threading.Event(), threading.Event()
    journal.submit(lambda: (hangs.set(), may_go_on.wait(60)))
    await wait_until(hangs.is_set)
    handles = [bgtasks.fire(tasks.succeed, number) for number in range(3)]
    assert [await handle for handle in handles] == [0, 1, 2]
    journal.stop(0.0)
    [path] = tmp_path.glob("*.jsonl")
    kept = path.read_text()
    may_go_on.set()
    journal._thread.join(20)
    await runtime.stop()
    await sync_to_async(BackgroundTask.objects.all()._raw_delete)("default")
    await Process.objects.all().adelete()
    path.write_text(kept)
    announced: list[Any] = []

    def hear(task_id: Any, **details: Any) -> None:
        announced.append(task_id)

    signals.task_finished.connect(hear)
    await runtime.start()
    await wait_until(lambda: not list(tmp_path.glob("*")))
    assert sorted(announced) == sorted(handle.id for handle in handles)
    reader = await Process.objects.aget()
    assert reader.fired_count == 3
    found = [(row.status, row.origin) async for row in BackgroundTask.objects.all()]
    assert found == [("SUCCESSFUL", reader.pk)] * 3

    @sync_to_async
    def read_counts() -> dict[str, int]:
        read = rollups.read("default", rollups.MINUTE, timezone.now(), timedelta(hours=1), [reader.pk])
        return dict(total_of(read).statuses)

    async def are_counted() -> bool:
        return await read_counts() == {"SUCCESSFUL": 3}

    await wait_until(are_counted)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="Windows has no such permissions.")
def test_a_folder_that_others_may_write_to_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A user who can write a spool file can have the project's tasks run."""
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    folder = tmp_path / f"bgtasks-{os.getuid()}"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(PermissionError, match="SPOOL_PATH"):
        spool.find_folder(Settings())
    folder.rmdir()
    (tmp_path / "elsewhere").mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError, match="SPOOL_PATH"):
        spool.find_folder(Settings())
    folder.unlink()
    assert spool.find_folder(Settings()).stat().st_mode & 0o777 == 0o700


def test_a_line_that_was_changed_is_damaged() -> None:
    with pytest.raises(spool.Damaged, match="checksum"):
        spool.decode("00000000 {}", {})
    with pytest.raises(spool.Damaged, match="checksum"):
        spool.decode("", {})


async def test_a_claimed_task_is_spooled_whatever_its_arguments(runtime: Runtime) -> None:
    """Its row has them already, and the next write is an update."""

    @bgtasks.task(name="waits")
    async def wait(parts: list[str]) -> None:
        await asyncio.Event().wait()

    row = await BackgroundTask.objects.acreate(name="waits", args=[["a"]], created_at=timezone.now(), transitions=[])
    await wait_until(bgtasks.live_tasks)
    runner = apps.get_app_config("bgtasks").runtime
    record = runner.registry.live[row.pk.int]

    _, _, found = spool.decode(spool.encode(record, runner.state.id, ""), {})

    assert found.written == record.written
    assert found.status is bgtasks.Status.RUNNING
    [live] = bgtasks.live_tasks()
    live.cancel()
