"""The progress that a task reports, and the checkpoint for its next attempt."""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal
from typing import Any

import pytest
from django.apps import apps
from django.utils import timezone

import bgtasks
from bgtasks.journal.statements import Statements
from bgtasks.models import BackgroundTask
from bgtasks.runtime.context import MAX_CHECKPOINT_BYTES
from bgtasks.uuid7 import uuid7
from tests.conftest import Runtime, read_row, wait_until
from tests.waiting import next_turn


def count_updates(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    made = [0]
    make = Statements.update_row

    def count_and_make(*args: Any) -> Any:
        made[0] += 1
        return make(*args)

    monkeypatch.setattr(Statements, "update_row", count_and_make)
    return made


async def test_progress_is_in_the_row_while_it_runs_and_at_the_end(runtime: Runtime) -> None:
    goes_on = asyncio.Event()

    @bgtasks.task(name="reports")
    async def reports() -> None:
        current = bgtasks.current()
        current.progress(1, 4, "half of a half")
        await goes_on.wait()
        current.progress(4, 4)

    handle = await bgtasks.afire(reports)

    async def is_reported() -> bool:
        row = await BackgroundTask.objects.aget(pk=handle.id)
        return row.progress is not None

    await wait_until(is_reported)
    row = await BackgroundTask.objects.aget(pk=handle.id)
    assert row.status == "RUNNING"
    assert {name: row.progress[name] for name in ("done", "total", "note")} == {
        "done": 1,
        "total": 4,
        "note": "half of a half",
    }
    goes_on.set()
    row = await read_row(handle)
    assert (row.progress["done"], row.progress["note"]) == (4, "")
    assert [entry["status"] for entry in row.transitions] == ["RUNNING", "SUCCESSFUL"]


@pytest.mark.parametrize("end", ["returns", "raises", "cancelled"])
async def test_the_last_progress_is_written_whatever_the_end(runtime: Runtime, end: str) -> None:
    @bgtasks.task(name="reports")
    async def reports() -> None:
        for number in range(100):
            bgtasks.current().progress(number)
        if end == "raises":
            raise ValueError("as asked")
        if end == "cancelled":
            await asyncio.sleep(60)

    handle = bgtasks.fire(reports)
    if end == "cancelled":
        await next_turn()
        handle.cancel()
    assert (await read_row(handle)).progress["done"] == 99


async def test_many_calls_are_few_writes(settings: Any, transactional_db: None, monkeypatch: Any) -> None:
    settings.BGTASKS = {**settings.BGTASKS, "POLL_INTERVAL": 30}
    runtime = Runtime()
    await runtime.start()
    made = count_updates(monkeypatch)

    @bgtasks.task(name="reports")
    async def reports() -> float:
        current = bgtasks.current()
        began = time.perf_counter()
        for number in range(50_000):
            current.progress(number, 50_000, "on its way")
            if number % 1000 == 0:
                await asyncio.sleep(0)
        return time.perf_counter() - began

    handle = await bgtasks.afire(reports)
    seconds = await handle.wait(timeout=60)
    row = await read_row(handle)
    assert row.progress["done"] == 49_999
    assert made[0] <= 2  # One at once, one at the end.
    assert seconds < 20
    await runtime.stop()


async def test_progress_of_a_plain_function(runtime: Runtime) -> None:
    @bgtasks.task(name="plain_reports", max_attempts=2, backoff="constant", backoff_first=0.01)
    def plain_reports() -> Any:
        current = bgtasks.current()
        found = current.checkpoint
        current.progress(1, 2)
        current.set_checkpoint({"at": current.attempt})
        if current.attempt == 1:
            raise ValueError("once")
        current.progress(2, 2)
        return found

    handle = bgtasks.fire(plain_reports)
    assert await handle.wait(timeout=20) == {"at": 1}
    row = await read_row(handle)
    assert (row.progress["done"], row.checkpoint) == (2, {"at": 2})


async def test_from_what_the_task_starts_by_itself(runtime: Runtime) -> None:
    @bgtasks.task(name="starts_others")
    async def starts_others() -> None:
        async def part(number: int) -> None:
            bgtasks.current().progress(number)

        await asyncio.gather(part(1), part(2))

    handle = bgtasks.fire(starts_others)
    await handle
    assert (await read_row(handle)).progress["done"] == 2


async def test_a_coroutine_object_reports_too(runtime: Runtime) -> None:
    async def reports() -> None:
        bgtasks.current().progress(1)
        bgtasks.current().set_checkpoint("here")

    handle = bgtasks.fire(reports())
    await handle
    row = await read_row(handle)
    assert (row.progress["done"], row.checkpoint) == (1, "here")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("1",), TypeError, "progress: done is a number, not '1'"),
        ((True,), TypeError, "progress: done is a number"),
        ((None,), TypeError, "progress: done is a number"),
        ((Decimal(1),), TypeError, "progress: done is a number"),
        ((-1,), ValueError, "progress: done is a finite number of at least 0"),
        ((float("nan"),), ValueError, "progress: done is a finite"),
        ((float("inf"),), ValueError, "progress: done is a finite"),
        ((10**400,), ValueError, "progress: done is a finite"),
        ((1, "2"), TypeError, "progress: total is a number"),
        ((1, -2), ValueError, "progress: total is a finite"),
        ((1, 2, 3), TypeError, "progress: note is a string"),
    ],
)
async def test_wrong_progress(runtime: Runtime, arguments: Any, error: type[Exception], message: str) -> None:
    @bgtasks.task(name="reports")
    async def reports() -> None:
        with pytest.raises(error, match=message):
            bgtasks.current().progress(*arguments)

    handle = bgtasks.fire(reports)
    await handle
    assert (await read_row(handle)).progress is None


async def test_a_note_that_is_long_or_odd(runtime: Runtime) -> None:
    @bgtasks.task(name="reports")
    async def reports() -> None:
        bgtasks.current().progress(0.5, 0, "\x00ä\ud800" + "x" * 1000)

    handle = bgtasks.fire(reports)
    await handle
    progress = (await read_row(handle)).progress
    assert len(progress["note"]) <= 210
    assert "ä" in progress["note"]
    assert "\x00" not in progress["note"]


# Checkpoints.


async def test_the_next_attempt_finds_the_checkpoint(runtime: Runtime) -> None:
    @bgtasks.task(name="resumes", max_attempts=4, backoff="constant", backoff_first=0.01)
    async def resumes() -> list[Any]:
        current = bgtasks.current()
        done = current.checkpoint or []
        current.set_checkpoint([*done, current.attempt])
        if current.attempt < 4:
            raise ValueError("not yet")
        return done

    handle = bgtasks.fire(resumes)
    assert await handle.wait(timeout=20) == [1, 2, 3]
    assert (await read_row(handle)).checkpoint == [1, 2, 3, 4]


@pytest.mark.parametrize("value", ["text", "", 0, False, [], {}, {"ä": [1.5, None]}, "null", '"', "x" * 100_000])
async def test_what_a_checkpoint_may_be(runtime: Runtime, value: Any) -> None:
    """An attempt in another process, which has only the row, gets the same value."""

    @bgtasks.task(name="finds")
    async def finds() -> list[Any]:
        return [bgtasks.current().checkpoint == value, type(bgtasks.current().checkpoint) is type(value)]

    row = await BackgroundTask.objects.acreate(name="finds", created_at=timezone.now(), checkpoint=value)
    assert await (await bgtasks.aget(row.pk)).wait(timeout=20) == [True, True]


async def test_none_begins_anew(runtime: Runtime) -> None:
    @bgtasks.task(name="begins_anew", max_attempts=3, backoff="constant", backoff_first=0.01)
    async def begins_anew() -> Any:
        current = bgtasks.current()
        if current.attempt == 3:
            return ["found", current.checkpoint]
        current.set_checkpoint("there" if current.attempt == 1 else None)
        raise ValueError("again")

    handle = bgtasks.fire(begins_anew)
    assert await handle.wait(timeout=20) == ["found", None]


async def test_a_checkpoint_is_committed_while_it_runs(runtime: Runtime) -> None:
    goes_on = asyncio.Event()

    @bgtasks.task(name="keeps")
    async def keeps() -> None:
        bgtasks.current().set_checkpoint({"page": 7})
        await goes_on.wait()

    handle = await bgtasks.afire(keeps)
    await wait_until(lambda: BackgroundTask.objects.filter(pk=handle.id, checkpoint__page=7).aexists())
    goes_on.set()
    await handle


async def test_wrong_checkpoints(runtime: Runtime) -> None:
    @bgtasks.task(name="keeps")
    async def keeps() -> Any:
        current = bgtasks.current()
        current.set_checkpoint("x" * (MAX_CHECKPOINT_BYTES - 2))
        with pytest.raises(ValueError, match="set_checkpoint: the value takes 262145 bytes as JSON, more than 262144"):
            current.set_checkpoint("x" * (MAX_CHECKPOINT_BYTES - 1))
        with pytest.raises(TypeError, match="set_checkpoint: the value is a set that JSON cannot hold"):
            current.set_checkpoint({1, 2})
        with pytest.raises(ValueError, match="set_checkpoint: the value is or contains NaN"):
            current.set_checkpoint([float("nan")])
        with pytest.raises(ValueError, match="set_checkpoint: the value has a NUL character"):
            current.set_checkpoint("\0")
        return len(current.checkpoint)

    handle = bgtasks.fire(keeps)
    assert await handle == MAX_CHECKPOINT_BYTES - 2
    assert len((await read_row(handle)).checkpoint) == MAX_CHECKPOINT_BYTES - 2


async def test_what_was_taken_by_others_keeps_nothing(runtime: Runtime) -> None:
    """The row belongs to another attempt by now. The old one must not overwrite its checkpoint."""
    goes_on = asyncio.Event()
    is_over = asyncio.Event()

    @bgtasks.task(name="is_taken", on_lost="rerun")
    async def is_taken() -> None:
        bgtasks.current().set_checkpoint("mine")
        try:
            await goes_on.wait()
        finally:
            bgtasks.current().set_checkpoint("late")
            bgtasks.current().progress(1)
            is_over.set()

    handle = await bgtasks.afire(is_taken)
    rows = BackgroundTask.objects.filter(pk=handle.id)
    await wait_until(lambda: rows.filter(checkpoint="mine").aexists())
    await rows.aupdate(process=uuid7(), attempt=2, checkpoint="theirs")
    goes_on.set()
    await is_over.wait()
    journal = apps.get_app_config("bgtasks").runtime.journal
    await wait_until(lambda: journal.count_unwritten() == 0)
    row = await rows.aget()
    assert (row.status, row.attempt, row.checkpoint, row.progress) == ("RUNNING", 2, "theirs", None)


def test_outside_a_task() -> None:
    with pytest.raises(RuntimeError, match="outside a task"):
        bgtasks.current()
