"""The time limits of an attempt: the timeout, the soft timeout, and tasks that ignore both."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

import bgtasks
from bgtasks import transitions
from bgtasks.api import get_runner
from bgtasks.models import BackgroundTask
from bgtasks.status import Status
from tests.conftest import Runtime, read_row, wait_until
from tests.waiting import astays, next_turn

HOUR = 3600.0
SHORT = 0.1  # Seconds.


@pytest.fixture
def short_grace(settings: Any) -> None:
    settings.BGTASKS = {**settings.BGTASKS, "CANCEL_GRACE": 0.2, "HEARTBEAT": 0.2}


@bgtasks.task(timeout=SHORT)
async def hang() -> None:
    await hang_deep_down()


async def hang_deep_down() -> None:
    await asyncio.sleep(HOUR)


# The timeout.


async def test_a_timeout_fails_it_and_says_where_it_was_waiting(runtime: Runtime) -> None:
    handle = bgtasks.fire(hang)

    with pytest.raises(bgtasks.TaskFailed) as caught:
        await handle.wait(20)

    assert isinstance(caught.value.__cause__, TimeoutError)
    row = await read_row(handle)
    assert (row.status, row.error_type, row.attempt) == ("FAILED", "TimeoutError", 1)
    assert "timeout of 0.1 s" in row.error_message
    assert "hang_deep_down (" in row.error_message
    assert "test_time_limits.py:" in row.error_message
    assert "hang_deep_down" in row.traceback
    assert row.transitions[-1]["why"].startswith("raised TimeoutError: ")


async def test_what_has_to_be_cleaned_up_is(runtime: Runtime) -> None:
    done: list[str] = []

    @bgtasks.task(name="cleans up", timeout=SHORT)
    async def cleans_up() -> None:
        try:
            await asyncio.sleep(HOUR)
        finally:
            await asyncio.sleep(0.01)
            done.append("cleaned up")
            done.append(str(bgtasks.current().cancel_requested))

    row = await read_row(bgtasks.fire(cleans_up))

    assert (row.status, row.error_type) == ("FAILED", "TimeoutError")
    assert done == ["cleaned up", "True"]


async def test_one_that_is_in_time_is_left_alone(runtime: Runtime) -> None:
    @bgtasks.task(name="in time", timeout=HOUR, soft_timeout=HOUR / 2)
    async def in_time() -> bool:
        return bgtasks.current().soft_timeout_reached

    assert await bgtasks.fire(in_time).wait(20) is False


async def test_one_that_catches_the_end_and_returns_is_successful(runtime: Runtime) -> None:
    @bgtasks.task(name="saves", timeout=SHORT)
    async def saves() -> str:
        try:
            await asyncio.sleep(HOUR)
        except asyncio.CancelledError:
            return "what there was"
        return ""

    assert await bgtasks.fire(saves).wait(20) == "what there was"


async def test_one_that_raises_something_else_fails_with_that(runtime: Runtime) -> None:
    @bgtasks.task(name="translates", timeout=SHORT, max_attempts=2, retry_on=KeyError)
    async def translates() -> None:
        try:
            await asyncio.sleep(HOUR)
        except asyncio.CancelledError:
            raise ValueError("translated") from None

    row = await read_row(bgtasks.fire(translates))
    assert (row.status, row.error_message, row.attempt) == ("FAILED", "translated", 1)


async def test_a_timeout_of_its_own_inside_is_its_own(runtime: Runtime) -> None:
    @bgtasks.task(name="times itself", timeout=HOUR)
    async def times_itself() -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(HOUR)
        except TimeoutError:
            return "its own"
        return ""

    assert await bgtasks.fire(times_itself).wait(20) == "its own"


async def test_a_timeout_counts_as_an_attempt_and_is_tried_again(runtime: Runtime) -> None:
    @bgtasks.task(name="slow at first", timeout=SHORT, max_attempts=3, backoff="constant", backoff_first=0.01)
    async def slow_at_first() -> int:
        attempt = bgtasks.current().attempt
        if attempt < 3:
            await asyncio.sleep(HOUR)
        return attempt

    handle = bgtasks.fire(slow_at_first)

    assert await handle.wait(20) == 3
    row = await read_row(handle)
    assert sum("TimeoutError" in entry["why"] for entry in row.transitions) == 2


async def test_a_timeout_may_be_given_up_on(runtime: Runtime) -> None:
    @bgtasks.task(name="gives up", timeout=SHORT, max_attempts=3, give_up_on=TimeoutError)
    async def gives_up() -> None:
        await asyncio.sleep(HOUR)

    row = await read_row(bgtasks.fire(gives_up))
    assert (row.status, row.attempt) == ("FAILED", 1)


async def test_the_time_is_the_attempts_own(settings: Any, transactional_db: None) -> None:
    """The wait for a slot does not count."""
    settings.BGTASKS = {**settings.BGTASKS, "MAX_RUNNING": 1}
    runtime = Runtime()
    await runtime.start()

    @bgtasks.task(name="waits first", timeout=0.4)
    async def waits_first() -> float:
        deadline = bgtasks.current().deadline
        assert deadline is not None
        return (deadline - datetime.now(UTC)).total_seconds()

    @bgtasks.task(name="keeps the slot")
    async def keeps_the_slot() -> None:
        await asyncio.sleep(0.6)  # Longer than the time of the other one.

    busy = bgtasks.fire(keeps_the_slot)
    assert 0 < await bgtasks.fire(waits_first).wait(20) <= 0.4
    await busy
    await runtime.stop()


@pytest.mark.parametrize("afire", [False, True], ids=["fire", "afire"])
async def test_the_deadline_is_when_the_end_comes(runtime: Runtime, afire: bool) -> None:
    ended: list[tuple[datetime | None, datetime]] = []

    @bgtasks.task(name="notes", timeout=0.3)
    async def notes() -> None:
        deadline = bgtasks.current().deadline
        try:
            await asyncio.sleep(HOUR)
        finally:
            ended.append((deadline, datetime.now(UTC)))

    handle = await bgtasks.afire(notes) if afire else bgtasks.fire(notes)
    await read_row(handle)

    [(deadline, end)] = ended
    assert deadline is not None
    assert abs(end - deadline) < timedelta(seconds=2)


async def test_without_a_timeout_there_is_no_deadline(runtime: Runtime) -> None:
    @bgtasks.task(name="free", soft_timeout=HOUR)
    async def free() -> bool:
        return bgtasks.current().deadline is None

    async def coroutine() -> bool:
        return bgtasks.current().deadline is None

    assert await bgtasks.fire(free).wait(20)
    assert await bgtasks.fire(coroutine()).wait(20)


async def test_using_gives_a_timeout_that_the_row_keeps(runtime: Runtime) -> None:
    @bgtasks.task(name="free")
    async def free() -> None:
        await asyncio.sleep(HOUR)

    row = await read_row(bgtasks.fire(free.using(timeout=SHORT)))
    assert (row.status, row.options) == ("FAILED", {"timeout": SHORT})
    claimed = await BackgroundTask.objects.acreate(
        name="free", created_at=timezone.now(), options={"timeout": SHORT, "soft_timeout": 0.05}
    )
    await wait_until(lambda: BackgroundTask.objects.filter(pk=claimed.pk, error_type="TimeoutError").aexists())


async def test_a_cancel_that_comes_while_it_cleans_up_beats_another_attempt(runtime: Runtime) -> None:
    cleaning, go_on = asyncio.Event(), asyncio.Event()

    @bgtasks.task(name="cleans up", timeout=SHORT, max_attempts=5)
    async def cleans_up() -> None:
        try:
            await asyncio.sleep(HOUR)
        finally:
            cleaning.set()
            while not go_on.is_set():
                try:
                    await go_on.wait()
                except asyncio.CancelledError:
                    continue

    for ask in (lambda handle: handle.cancel(), ask_in_the_row):
        cleaning.clear()
        go_on.clear()
        handle = bgtasks.fire(cleans_up)
        await cleaning.wait()
        asked = ask(handle)
        if asyncio.iscoroutine(asked):
            await asked
        go_on.set()
        row = await read_row(handle)
        assert (row.status, row.attempt) == ("CANCELLED", 1)


async def ask_in_the_row(handle: Any) -> None:
    await wait_until(lambda: BackgroundTask.objects.filter(pk=handle.id, status="RUNNING").aexists())
    await sync_to_async(transitions.cancel)("default", handle.id, "somebody", "asked")
    [record] = [record for record in get_runner().registry.live.values() if record.id == handle.id]
    await wait_until(lambda: record.cancel_reason == "asked")


# The soft timeout.


async def test_the_hook_is_called_in_the_tasks_context_on_its_loop(runtime: Runtime) -> None:
    calls: list[Any] = []

    def warn() -> None:
        calls.append((bgtasks.current().id, bgtasks.current().soft_timeout_reached, asyncio.get_running_loop()))

    @bgtasks.task(name="warned", soft_timeout=0.05, on_soft_timeout=warn)
    async def is_warned() -> bool:
        while not bgtasks.current().soft_timeout_reached:
            await asyncio.sleep(0.01)
        return True

    handle = bgtasks.fire(is_warned)

    assert await handle.wait(20)
    assert calls == [(handle.id, True, asyncio.get_running_loop())]


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt])
async def test_a_hook_that_raises_stops_neither_task_nor_server(
    runtime: Runtime, kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    def warn() -> None:
        raise kind("in the hook")

    @bgtasks.task(name="goes on", soft_timeout=0.02, on_soft_timeout=warn)
    async def goes_on() -> str:
        while not bgtasks.current().soft_timeout_reached:
            await asyncio.sleep(0.01)
        return "goes on"

    assert await bgtasks.fire(goes_on).wait(20) == "goes on"
    assert "on_soft_timeout of task goes on" in caplog.text


async def test_a_plain_function_looks_by_itself(runtime: Runtime) -> None:
    @bgtasks.task(name="in a thread", soft_timeout=0.05)
    def in_a_thread() -> bool:
        end = time.monotonic() + 20
        while not bgtasks.current().soft_timeout_reached and time.monotonic() < end:
            threading.Event().wait(0.01)
        return bgtasks.current().soft_timeout_reached

    assert await bgtasks.fire(in_a_thread).wait(30) is True


async def test_each_attempt_has_its_own_word(runtime: Runtime) -> None:
    seen: list[bool] = []

    @bgtasks.task(name="warned anew", soft_timeout=0.05, max_attempts=2, backoff="constant", backoff_first=0.01)
    async def warned_anew() -> None:
        seen.append(bgtasks.current().soft_timeout_reached)
        if bgtasks.current().attempt == 1:
            while not bgtasks.current().soft_timeout_reached:
                await asyncio.sleep(0.01)
            raise ValueError("no")

    await bgtasks.fire(warned_anew).wait(20)

    assert seen == [False, False]


# Tasks that ignore their cancellation.


class Deaf:
    """A task that ignores its cancellation until `go_on` is set."""

    def __init__(self, **options: Any) -> None:
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()

        @bgtasks.task(name="deaf", **options)
        async def deaf() -> str:
            self.begun.set()
            while not self.go_on.is_set():
                try:
                    await self.go_on.wait()
                except asyncio.CancelledError:
                    continue
            return "in the end"

        self.task = deaf


async def find_ignored(handle: Any) -> str | None:
    row = await BackgroundTask.objects.filter(pk=handle.id).afirst()
    return (row.await_place or {}).get("ignores_cancellation_since") if row is not None else None


def run_stuck_tasks(*arguments: str) -> tuple[int, str]:
    out = io.StringIO()
    try:
        call_command("stuck_tasks", *arguments, stdout=out)
    except SystemExit as end:
        return int(end.code or 0), out.getvalue()
    return 0, out.getvalue()


@pytest.mark.parametrize("by", ["timeout", "cancel", "row"])
async def test_one_that_ignores_its_end_is_shown_everywhere(
    short_grace: None, runtime: Runtime, caplog: pytest.LogCaptureFixture, by: str
) -> None:
    deaf = Deaf(**({"timeout": SHORT} if by == "timeout" else {}))
    handle = bgtasks.fire(deaf.task)
    await deaf.begun.wait()
    if by == "cancel":
        assert handle.cancel()
    elif by == "row":
        await ask_in_the_row(handle)

    await wait_until(lambda: find_ignored(handle))

    since = datetime.fromisoformat(str(await find_ignored(handle)))
    assert timedelta(0) <= datetime.now(UTC) - since < timedelta(minutes=1)
    assert f"Task deaf ({handle.id}) ignores its cancellation" in caplog.text
    code, found = await sync_to_async(run_stuck_tasks)("--format", "json")
    [task] = json.loads(found)["tasks"]
    assert (code, task["id"], task["kind"]) == (1, str(handle.id), "running")
    assert "it ignores its cancellation for" in task["reason"]
    assert "Deaf.__init__.<locals>.deaf" in task["await_place"]["function"]
    _, table = await sync_to_async(run_stuck_tasks)()
    assert "ignores" in table

    deaf.go_on.set()
    assert await handle.wait(20) == "in the end"
    await read_row(handle)
    assert await sync_to_async(run_stuck_tasks)() == (0, "Nothing is stuck.\n")


async def test_the_admin_shows_it_on_the_tasks_page(short_grace: None, runtime: Runtime, admin_user: Any) -> None:
    deaf = Deaf(timeout=SHORT)
    handle = bgtasks.fire(deaf.task)
    await wait_until(lambda: find_ignored(handle))
    client = Client()
    await sync_to_async(client.force_login)(admin_user)

    page = await sync_to_async(client.get)(handle.get_admin_url())

    assert "ignores_cancellation_since" in page.content.decode()
    deaf.go_on.set()
    await handle.wait(20)


async def test_it_is_reported_once_however_often_it_is_cancelled(
    short_grace: None, runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    deaf = Deaf()
    handle = bgtasks.fire(deaf.task)
    await deaf.begun.wait()
    for _ in range(3):
        handle.cancel()
        await next_turn()
    await wait_until(lambda: find_ignored(handle))
    since = await find_ignored(handle)
    handle.cancel()

    def find_levels() -> list[int]:
        return [record.levelno for record in caplog.records if "ignores its cancellation" in record.getMessage()]

    await astays(
        lambda: find_levels() == [logging.WARNING], 0.5, why="longer than CANCEL_GRACE and HEARTBEAT, 0.2 s each"
    )
    assert await find_ignored(handle) == since
    deaf.go_on.set()
    await handle.wait(20)


async def test_one_that_cleans_up_in_time_is_not_called_so(
    short_grace: None, runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    @bgtasks.task(name="quick", timeout=0.05, max_attempts=2, backoff="constant", backoff_first=0.01)
    async def quick() -> None:
        if bgtasks.current().attempt == 1:
            await asyncio.sleep(HOUR)
        await asyncio.sleep(0)

    handle = bgtasks.fire(quick)
    await handle.wait(20)

    await astays(lambda: "ignores its cancellation" not in caplog.text, 0.4, why="twice CANCEL_GRACE")
    assert await find_ignored(handle) is None


async def test_the_next_attempt_is_not_shown_for_the_last_one(short_grace: None, runtime: Runtime) -> None:
    go_on = asyncio.Event()
    second, is_seen = asyncio.Event(), asyncio.Event()

    @bgtasks.task(name="deaf at first", timeout=2, max_attempts=2, backoff="constant", backoff_first=0.01)
    async def deaf_at_first() -> None:
        if bgtasks.current().attempt == 2:
            second.set()
            await is_seen.wait()
            return
        while not go_on.is_set():
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                continue
        raise ValueError("in the end")

    handle = bgtasks.fire(deaf_at_first)
    await wait_until(lambda: find_ignored(handle))
    go_on.set()
    await second.wait()

    code, _ = await sync_to_async(run_stuck_tasks)("--format", "json")
    assert code == 0
    is_seen.set()
    await handle.wait(20)


async def test_a_drain_that_meets_a_timeout_leaves_nothing_running(short_grace: None, runtime: Runtime) -> None:
    deaf = Deaf(timeout=SHORT, max_attempts=3)
    handle = bgtasks.fire(deaf.task)
    [record] = [record for record in get_runner().registry.live.values() if record.id == handle.id]
    attempt = record.asyncio_task
    await wait_until(lambda: record.ignores_since)

    report = await bgtasks.drain(0.1)

    assert report.left_count == 1
    row = await read_row(handle)
    assert row.status == "INTERRUPTED"
    assert handle.status is Status.INTERRUPTED
    deaf.go_on.set()
    await asyncio.wait({attempt})  # Its late result is only logged.
    await row.arefresh_from_db()
    assert row.status == "INTERRUPTED"
