"""Further attempts: their rows, their processes, and the events that take precedence."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from asgiref.sync import sync_to_async
from django.test import TestCase
from django.utils import timezone

import bgtasks
from bgtasks import signals, testing, transitions
from bgtasks.api import get_runner
from bgtasks.journal.statements import Statements
from bgtasks.journal.writer import Batch
from bgtasks.models import BackgroundTask
from bgtasks.process.extras import Extras
from bgtasks.process.record import Record
from bgtasks.status import Status
from tests.app import tasks
from tests.conftest import Runtime, read_row, wait_until
from tests.waiting import next_turn

SOON = 0.02  # Seconds.
HOUR = 3600.0


class Flaky:
    """A task that raises until its last attempt."""

    def __init__(
        self, fails: int, error: Callable[[int], BaseException] = lambda attempt: ValueError(f"no. {attempt}")
    ):
        self.fails = fails
        self.error = error or (lambda attempt: ValueError(f"no. {attempt}"))
        self.attempts: list[int] = []

    def declare(self, is_async: bool = True, **options: Any) -> Any:
        options = {"max_attempts": 5, "backoff": "constant", "backoff_first": SOON, "backoff_jitter": False, **options}

        if is_async:

            @bgtasks.task(name="flaky", **options)
            async def flaky(value: object = None) -> object:
                return self.attempt(value)

            return flaky

        @bgtasks.task(name="flaky in a thread", **options)
        def flaky_in_thread(value: object = None) -> object:
            return self.attempt(value)

        return flaky_in_thread

    def attempt(self, value: object) -> object:
        attempt = bgtasks.current().attempt
        self.attempts.append(attempt)
        if attempt <= self.fails:
            raise self.error(attempt)
        return value


async def read(handle: Any) -> BackgroundTask:
    return await BackgroundTask.objects.aget(pk=handle.id)


async def is_waiting(handle: Any) -> bool:
    return await BackgroundTask.objects.filter(pk=handle.id, status="READY", run_after__isnull=False).aexists()


def whys(row: BackgroundTask) -> list[str]:
    return [entry["why"] for entry in row.transitions]


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "thread"])
@pytest.mark.parametrize("afire", [False, True], ids=["fire", "afire"])
async def test_each_attempt_stands_in_the_history_and_the_last_one_counts(
    runtime: Runtime, is_async: bool, afire: bool
) -> None:
    flaky = Flaky(2)
    task = flaky.declare(is_async)

    handle = await bgtasks.afire(task, 7) if afire else bgtasks.fire(task, 7)

    assert await handle.wait(20) == 7
    row = await read_row(handle)
    assert (row.status, row.attempt, row.max_attempts, row.result) == ("SUCCESSFUL", 3, 5, 7)
    assert flaky.attempts == [1, 2, 3]
    assert [entry["status"] for entry in row.transitions] == ["RUNNING", "READY"] * 2 + ["RUNNING", "SUCCESSFUL"]
    assert [entry["attempt"] for entry in row.transitions] == [1, 1, 2, 2, 3, 3]
    assert [why.split(";")[0] for why in whys(row)[1::2]] == [
        "raised ValueError: no. 1",
        "raised ValueError: no. 2",
        "returned",
    ]
    assert "attempt 2 of 5" in whys(row)[1]
    assert (row.error_type, row.error_message, row.traceback, row.error_fingerprint) == ("", "", "", "")


async def test_the_last_attempt_fails_with_its_own_error(runtime: Runtime) -> None:
    flaky = Flaky(9)
    handle = bgtasks.fire(flaky.declare(max_attempts=3))

    with pytest.raises(bgtasks.TaskFailed, match=r"ValueError: no\. 3") as caught:
        await handle.wait(20)

    assert str(caught.value.__cause__) == "no. 3"
    row = await read_row(handle)
    assert (row.status, row.attempt, row.error_message) == ("FAILED", 3, "no. 3")
    assert flaky.attempts == [1, 2, 3]
    assert [why.split(";")[0] for why in whys(row) if "raised" in why] == [
        f"raised ValueError: no. {n}" for n in (1, 2, 3)
    ]


async def test_what_waits_for_its_next_attempt_waits_in_the_table(runtime: Runtime) -> None:
    """It has no slot, no owner and no asyncio task, and its row has the failure of the last attempt."""
    handle = bgtasks.fire(Flaky(1).declare(backoff_first=HOUR, backoff_cap=HOUR))
    fired = datetime.now(UTC)

    await wait_until(lambda: is_waiting(handle))

    row = await read(handle)
    assert (row.status, row.process, row.attempt) == ("READY", None, 1)
    assert timedelta(seconds=HOUR - 60) < row.run_after - fired < timedelta(seconds=HOUR + 60)
    assert (row.error_type, row.error_message) == ("ValueError", "no. 1")
    assert "no. 1" in row.traceback
    assert row.finished_at is None
    assert handle.status is Status.READY
    assert bgtasks.pending_task_count() == 0
    assert get_runner().registry.count_running() == 0
    with pytest.raises(TimeoutError):
        await handle.wait(0.05)


async def test_an_exception_alone_is_not_tried_again(runtime: Runtime) -> None:
    """`on_lost="rerun"` allows three attempts after deaths, and no retry after an exception."""

    @bgtasks.task(name="rerun", on_lost="rerun")
    async def rerun(error: str) -> None:
        raise bgtasks.Retry(after=0) if error == "retry" else ValueError(error)

    row = await read_row(bgtasks.fire(rerun, "plain"))
    assert (row.status, row.attempt, row.max_attempts) == ("FAILED", 1, 3)
    row = await read_row(bgtasks.fire(rerun, "retry"))
    assert (row.status, row.attempt, row.error_type) == ("FAILED", 3, "bgtasks.exceptions.Retry")


async def test_what_it_was_fired_with_decides_also_after_a_claim_by_anybody(runtime: Runtime) -> None:
    """The claiming process knows only the row."""
    task = bgtasks.task(name="plain")(fails)
    now = timezone.now()
    make = BackgroundTask.objects.acreate
    rerun = await make(name=task.name, created_at=now, on_lost="rerun", max_attempts=3)
    given = await make(
        name=task.name,
        created_at=now,
        on_lost="rerun",
        max_attempts=3,
        options={"max_attempts": 3, "backoff": "constant", "backoff_first": SOON},
    )

    assert (await read_row(Found(rerun.pk))).attempt == 1
    assert (await read_row(Found(given.pk))).attempt == 3


async def fails() -> None:
    raise ValueError("no")


class Found:
    """Stands for a handle, for `read_row`."""

    def __init__(self, id_: UUID) -> None:
        self.id = id_


async def test_using_holds_for_each_attempt(runtime: Runtime) -> None:
    flaky = Flaky(3)
    task = declare_plain(flaky)

    handle = bgtasks.fire(task.using(max_attempts=4, backoff="constant", backoff_first=SOON, backoff_jitter=False), 7)

    assert await handle.wait(20) == 7
    row = await read_row(handle)
    assert row.options == {"max_attempts": 4, "backoff": "constant", "backoff_first": SOON, "backoff_jitter": False}
    assert row.attempt == 4


def declare_plain(flaky: Flaky) -> Any:
    @bgtasks.task(name="undeclared")
    async def undeclared(value: object) -> object:
        return flaky.attempt(value)

    return undeclared


# Retry and the answers of servers.


@pytest.mark.parametrize(
    "after",
    [
        lambda: HOUR,
        lambda: timedelta(hours=1),
        lambda: datetime.now(UTC) + timedelta(hours=1),
        lambda: "3600",
        lambda: (datetime.now(UTC) + timedelta(hours=1)).strftime("%a, %d %b %Y %H:%M:%S GMT"),
    ],
    ids=["seconds", "timedelta", "datetime", "header", "header's date"],
)
async def test_retry_says_when(runtime: Runtime, after: Callable[[], Any]) -> None:
    handle = bgtasks.fire(Flaky(1, lambda attempt: bgtasks.Retry(after=after())).declare())

    await wait_until(lambda: is_waiting(handle))

    row = await read(handle)
    assert abs(row.run_after - timezone.now() - timedelta(hours=1)) < timedelta(minutes=2)
    assert row.error_type == "bgtasks.exceptions.Retry"


async def test_retry_for_a_reason_shows_the_reason(runtime: Runtime) -> None:
    def make(attempt: int) -> BaseException:
        retry = bgtasks.Retry(after=SOON)
        retry.__cause__ = KeyError("the reason")
        return retry

    handle = bgtasks.fire(Flaky(9, make).declare(max_attempts=2))

    with pytest.raises(bgtasks.TaskFailed) as caught:
        await handle.wait(20)
    assert isinstance(caught.value.__cause__, KeyError)
    row = await read_row(handle)
    assert (row.error_type, row.attempt) == ("KeyError", 2)


async def test_retry_is_as_much_as_any_database_holds(runtime: Runtime) -> None:
    handle = bgtasks.fire(Flaky(1, lambda attempt: bgtasks.Retry(after=1e300)).declare())

    await wait_until(lambda: is_waiting(handle))

    assert timedelta(days=3649) < (await read(handle)).run_after - timezone.now() < timedelta(days=3651)


async def test_the_answer_of_a_server_is_heeded(runtime: Runtime) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(429, headers={"Retry-After": "3600"})

    @bgtasks.task(name="calls", max_attempts=3, backoff_first=SOON)
    async def calls() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
            (await client.get("https://api.example/")).raise_for_status()

    handle = bgtasks.fire(calls)
    await wait_until(lambda: is_waiting(handle))

    row = await read(handle)
    assert abs(row.run_after - timezone.now() - timedelta(hours=1)) < timedelta(minutes=2)
    assert row.error_type == "httpx.HTTPStatusError"


async def test_a_backoff_that_fails_fails_the_task_with_its_own_error(runtime: Runtime) -> None:
    def backoff(attempt: int, error: BaseException) -> float:
        raise SystemExit(3)

    row = await read_row(bgtasks.fire(declare_with(backoff)))

    assert (row.status, row.error_type) == ("FAILED", "ValueError")


def declare_with(backoff: Any) -> Any:
    @bgtasks.task(name="with backoff", max_attempts=3, backoff=backoff)
    async def with_backoff() -> None:
        raise ValueError("its own")

    return with_backoff


# The process of the next attempt.


async def test_another_process_makes_it_and_the_handle_hears_of_it(runtime: Runtime) -> None:
    """A caller waits since the first attempt; another process finishes the row."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    @bgtasks.task(name="fails once", max_attempts=2, backoff_first=HOUR, backoff_cap=HOUR, backoff_jitter=False)
    async def fails_once() -> None:
        begun.set()
        await go_on.wait()
        raise ValueError("no")

    handle = bgtasks.fire(fails_once)
    await begun.wait()
    waiting = asyncio.create_task(handle.wait(20))
    await next_turn()  # The caller waits while the task runs.
    go_on.set()
    await wait_until(lambda: is_waiting(handle))

    rows = BackgroundTask.objects.filter(pk=handle.id, status="READY")
    assert await rows.aupdate(status="SUCCESSFUL", result="elsewhere", finished_at=timezone.now(), attempt=2)

    assert await waiting == "elsewhere"


async def test_a_process_without_a_server_makes_the_attempts_of_its_own_tasks(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It claims no rows of others, so it has to remember each moment, not only the first."""
    monkeypatch.setattr(get_runner().state, "is_server", False)
    flaky = Flaky(2)
    task = flaky.declare(backoff_first=0.3)

    handles = [bgtasks.fire(task, number) for number in range(20)]

    assert await asyncio.wait_for(asyncio.gather(*handles), 30) == list(range(20))
    assert len(flaky.attempts) == 60


async def test_a_retry_at_once_that_is_faster_than_the_journal(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(get_runner().state, "is_server", False)
    task = Flaky(3, lambda attempt: bgtasks.Retry(after=0)).declare()

    handles = [bgtasks.fire(task, number) for number in range(50)]

    assert await asyncio.wait_for(asyncio.gather(*handles), 30) == list(range(50))


async def test_a_claim_that_overtakes_the_end_of_the_last_attempt(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop's thread pauses at each hand-over of the task; meanwhile the journal writes and claims."""
    flaky = Flaky(2, lambda attempt: bgtasks.Retry(after=0))
    runner = get_runner()

    def stand_still(where: str) -> None:
        original = getattr(runner.concluder, where)

        def wrapped(record: Any) -> None:
            is_first = record.attempt == 1  # A pause is shorter than the rescue's limit for a lost claim.
            if is_first:
                time.sleep(0.2)  # On purpose: it blocks the loop.
            original(record)
            if is_first:
                time.sleep(0.2)

        monkeypatch.setattr(runner.concluder, where, wrapped)

    # The journal gathers for so long that the first attempt ends before its first write.
    monkeypatch.setattr("bgtasks.journal.journal.LINGER", 0.1)
    monkeypatch.setattr("bgtasks.journal.journal.LONGEST_LINGER", 0.1)
    runner.journal._linger = 0.1
    stand_still("_forget")
    stand_still("_write")

    handle = bgtasks.fire(flaky.declare(), 7)

    assert await handle.wait(20) == 7
    assert flaky.attempts == [1, 2, 3]
    row = await read_row(handle)
    assert [entry["attempt"] for entry in row.transitions] == [1, 1, 2, 2, 3, 3]  # No rescue had to give it back.


async def test_the_next_attempt_begins_with_nothing_of_the_last_one(runtime: Runtime) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("left", default="nothing")
    seen: list[Any] = []

    @bgtasks.task(name="leaves", max_attempts=3, backoff="constant", backoff_first=SOON, timeout=HOUR)
    async def leaves() -> None:
        context = bgtasks.current()
        seen.append((variable.get(), context.cancel_requested, context.soft_timeout_reached, context.deadline))
        variable.set("something")
        if context.attempt < 3:
            raise ValueError("no")

    handle = bgtasks.fire(leaves)
    await handle.wait(20)

    assert [(left, asked, reached) for left, asked, reached, _ in seen] == [("nothing", False, False)] * 3
    deadlines = [deadline for *_, deadline in seen]
    assert deadlines == sorted(set(deadlines))


async def test_an_end_that_is_no_failure_reports_none(runtime: Runtime) -> None:
    """The row of a cancelled task has no error of an earlier attempt."""
    handle = bgtasks.fire(Flaky(1).declare(backoff_first=HOUR, backoff_cap=HOUR))
    await wait_until(lambda: is_waiting(handle))

    assert handle.cancel()
    with pytest.raises(bgtasks.TaskCancelled, match=r"was cancelled\.$") as caught:
        await handle.wait(20)
    assert caught.value.__cause__ is None
    row = await read_row(handle)
    assert (row.status, row.attempt) == ("CANCELLED", 1)


async def test_signals_announce_each_attempt_and_one_end(runtime: Runtime) -> None:
    heard: list[tuple[str, str, int]] = []

    def note(kind: str) -> Any:
        def receiver(*, name: str, status: Status, attempt: int, **kwargs: Any) -> None:
            if name == "flaky":
                heard.append((kind, status.value, attempt))

        return receiver

    receivers = {kind: note(kind) for kind in ("task_fired", "task_started", "task_finished")}
    for kind, receiver in receivers.items():
        getattr(signals, kind).connect(receiver)
    try:
        handle = bgtasks.fire(Flaky(2).declare())
        await handle.wait(20)
        await read_row(handle)
        await wait_until(lambda: ("task_finished", "SUCCESSFUL", 3) in heard)
    finally:
        for kind, receiver in receivers.items():
            getattr(signals, kind).disconnect(receiver)

    assert [entry for entry in heard if entry[0] != "task_fired"] == [
        ("task_started", "RUNNING", 1),
        ("task_started", "RUNNING", 2),
        ("task_started", "RUNNING", 3),
        ("task_finished", "SUCCESSFUL", 3),
    ]
    assert sum(kind == "task_fired" for kind, *_ in heard) == 1


# A request to cancel, a drain and a verdict take precedence over a retry.


async def test_a_cancel_beats_a_retry_here(runtime: Runtime) -> None:
    begun = asyncio.Event()

    @bgtasks.task(name="spites", max_attempts=5, backoff_first=SOON)
    async def spites() -> None:
        begun.set()
        try:
            await asyncio.sleep(HOUR)
        finally:
            raise ValueError("instead")

    handle = bgtasks.fire(spites)
    await begun.wait()
    handle.cancel()

    row = await read_row(handle)
    assert (row.status, row.attempt) == ("CANCELLED", 1)
    assert "ValueError: instead" in whys(row)[-1]


async def test_a_cancel_in_the_row_beats_a_retry_that_is_on_its_way(runtime: Runtime) -> None:
    """The request arrives at the end of the attempt. No further attempt is made or waits for an hour."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    @bgtasks.task(name="fails once", max_attempts=5, backoff_first=HOUR, backoff_cap=HOUR, backoff_jitter=False)
    async def fails_once() -> None:
        begun.set()
        await go_on.wait()
        raise ValueError("no")

    handle = await bgtasks.afire(fails_once)
    await begun.wait()
    get_runner().journal.services = [
        service for service in get_runner().journal.services if type(service).__name__ != "Requests"
    ]
    await wait_until(lambda: is_running(handle))
    asked = await sync_to_async(transitions.cancel)("default", handle.id, "somebody", "asked")
    assert asked is transitions.Cancellation.ASKED
    go_on.set()

    row = await read_row(handle)
    assert (row.status, row.attempt) == ("CANCELLED", 1)
    with pytest.raises(bgtasks.TaskCancelled):
        await handle.wait(20)


async def is_running(handle: Any) -> bool:
    return await BackgroundTask.objects.filter(pk=handle.id, status="RUNNING").aexists()


async def test_a_row_with_a_request_to_cancel_is_claimed_and_not_run(runtime: Runtime) -> None:
    """Its process died between the write and its lookup. The claiming process heeds the request."""
    flaky = Flaky(0)
    now = timezone.now()
    row = await BackgroundTask.objects.acreate(
        name=flaky.declare().name, created_at=now, attempt=1, max_attempts=5, run_after=now, cancel_requested_at=now
    )

    found = await read_row(Found(row.pk))
    assert found.status == "CANCELLED"
    assert flaky.attempts == []


async def test_cancel_while_it_waits_from_anywhere(runtime: Runtime) -> None:
    handle = bgtasks.fire(Flaky(1).declare(backoff_first=HOUR, backoff_cap=HOUR))
    await wait_until(lambda: is_waiting(handle))

    assert await sync_to_async(transitions.cancel)("default", handle.id, "user ada", "cancelled in the admin")

    with pytest.raises(bgtasks.TaskCancelled):
        await handle.wait(20)
    row = await read_row(handle)
    assert whys(row)[-1] == "cancelled in the admin"


async def test_a_drain_leaves_what_waits_as_ready(runtime: Runtime) -> None:
    waiting = bgtasks.fire(Flaky(1).declare(backoff_first=HOUR, backoff_cap=HOUR))
    await wait_until(lambda: is_waiting(waiting))

    report = await bgtasks.drain(5)

    assert (report.left_count, report.cancelled_count, report.is_written) == (0, 0, True)
    row = await read(waiting)
    assert (row.status, row.process, row.attempt) == ("READY", None, 1)


async def test_an_attempt_that_fails_in_a_drain_is_left_to_others(runtime: Runtime) -> None:
    """The drain waits for this attempt only."""

    @bgtasks.task(name="fails when draining", max_attempts=5, backoff="constant", backoff_first=SOON)
    async def fails_when_draining() -> None:
        while not bgtasks.current().draining:
            await asyncio.sleep(0.01)
        raise ValueError("no")

    handle = bgtasks.fire(fails_when_draining)
    await wait_until(lambda: handle.status is Status.RUNNING)

    report = await bgtasks.drain(10)

    assert (report.left_count, report.is_written) == (0, True)
    row = await read(handle)
    assert (row.status, row.process, row.attempt) == ("READY", None, 1)
    assert "attempt 2 of 5" in whys(row)[-1]


async def test_one_that_is_cut_short_is_not_tried_again_for_that(runtime: Runtime) -> None:
    """To be cut short is no failure of the task, so `on_lost` decides."""
    begun = asyncio.Event()

    @bgtasks.task(name="sleeps", max_attempts=5)
    async def sleeps() -> None:
        begun.set()
        await asyncio.sleep(HOUR)

    handle = bgtasks.fire(sleeps)
    await begun.wait()

    await bgtasks.drain(0.05)

    row = await read(handle)
    assert (row.status, row.attempt) == ("INTERRUPTED", 1)


async def test_a_waiting_task_has_no_owner_when_a_process_dies(runtime: Runtime) -> None:
    """A rescue gives it no verdict, and its attempts stay unchanged."""
    handle = bgtasks.fire(Flaky(1).declare(backoff_first=HOUR, backoff_cap=HOUR))
    await wait_until(lambda: is_waiting(handle))

    own = get_runner().state.id
    verdicts = await sync_to_async(transitions.give_verdicts)("default", own, "test", "it died", 100, counts=True)

    assert verdicts == []
    assert (await read(handle)).status == "READY"


async def test_a_key_stays_taken_while_it_waits_and_a_row_gets_none_that_it_had_not(runtime: Runtime) -> None:
    flaky = Flaky(1)
    task = flaky.declare(key="k", backoff_first=HOUR, backoff_cap=HOUR)
    first = await bgtasks.afire(task)
    await wait_until(lambda: is_waiting(first))

    with pytest.raises(bgtasks.KeyConflict):
        await bgtasks.afire(task.using(on_conflict="error"))
    without = await bgtasks.afire(task.using(key=None))
    claimed = await BackgroundTask.objects.acreate(name=task.name, created_at=timezone.now(), max_attempts=5)
    await wait_until(lambda: is_waiting(without))
    await wait_until(lambda: is_waiting(Found(claimed.pk)))

    rows = BackgroundTask.objects.order_by("pk")
    keys = {row.pk: row.live_key async for row in rows}
    assert (keys[first.id], keys[without.id], keys[claimed.pk]) == ("k", None, None)


async def test_many_that_fail_together_all_come_back(runtime: Runtime) -> None:
    flaky = Flaky(1)
    task = flaky.declare(backoff_first=0.5, backoff_cap=0.5)

    handles = [bgtasks.fire(task, number) for number in range(1500)]

    assert await asyncio.wait_for(asyncio.gather(*handles), 60) == list(range(1500))
    assert flaky.attempts.count(1) == flaky.attempts.count(2) == 1500


async def test_what_gets_extras_while_it_is_written_is_written_once(runtime: Runtime, monkeypatch: Any) -> None:
    """The loop does not wait for the journal. A retry, or progress, may come between a batch and its commit."""
    make = Batch.__init__

    def make_and_lose_the_race(self: Batch, records: list[Record], statements: Statements) -> None:
        make(self, records, statements)
        for record in records:
            record.extras = record.extras or Extras()

    monkeypatch.setattr(Batch, "__init__", make_and_lose_the_race)
    inserted = count_calls(monkeypatch, Statements, "insert_row")
    handles = [bgtasks.fire(tasks.succeed, number) for number in range(5)]
    assert [await handle.wait(timeout=20) for handle in handles] == list(range(5))
    for handle in handles:
        assert (await read_row(handle)).status == "SUCCESSFUL"
    assert len(inserted) == 5


def count_calls(monkeypatch: Any, kind: type, name: str) -> list[None]:
    calls: list[None] = []
    real = getattr(kind, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        calls.append(None)
        return real(*args, **kwargs)

    monkeypatch.setattr(kind, name, call)
    return calls


async def test_each_of_many_attempts_leaves_its_mark(runtime: Runtime) -> None:
    handle = bgtasks.fire(Flaky(999, lambda attempt: bgtasks.Retry(after=0)).declare(max_attempts=60))

    row = await read_row(handle, seconds=60)

    assert (row.status, row.attempt, len(row.transitions)) == ("FAILED", 60, 120)


# In tests, which capture tasks.


class TestCaptured(TestCase):
    def test_run_fired_runs_it_until_it_ends(self) -> None:
        for is_async in (True, False):
            flaky = Flaky(3)
            bgtasks.fire(flaky.declare(is_async, backoff_first=HOUR, backoff_cap=HOUR), 7)

            ran = testing.run_fired()

            assert [item.status for item in ran] == [Status.SUCCESSFUL]
            assert ran[0].error is None
            assert flaky.attempts == [1, 2, 3, 4]

    def test_it_raises_what_the_last_attempt_raised(self) -> None:
        flaky = Flaky(9)
        bgtasks.fire(flaky.declare())

        with self.assertRaisesMessage(ValueError, "no. 5"):
            testing.run_fired()

        bgtasks.fire(flaky.declare())
        [item] = testing.run_fired(raise_errors=False)
        assert (item.status, str(item.error)) == (Status.FAILED, "no. 5")

    def test_more_attempts_than_tasks_may_be_fired(self) -> None:
        flaky = Flaky(999, lambda attempt: bgtasks.Retry(after=HOUR))
        handles = [bgtasks.fire(flaky.declare(max_attempts=1000), number) for number in range(3)]

        assert len(testing.run_fired()) == 3
        assert {handle.status for handle in handles} == {Status.SUCCESSFUL}

    def test_a_timeout_ends_one_attempt_and_not_the_next(self) -> None:
        attempts: list[int] = []

        @bgtasks.task(name="hangs", max_attempts=3, timeout=0.05)
        async def hangs() -> int:
            attempts.append(bgtasks.current().attempt)
            if len(attempts) < 3:
                await asyncio.sleep(HOUR)
            return len(attempts)

        bgtasks.fire(hangs)
        [item] = testing.run_fired()

        assert attempts == [1, 2, 3]
        assert item.status is Status.SUCCESSFUL

    def test_later_is_now(self) -> None:
        flaky = Flaky(0)
        bgtasks.fire(flaky.declare().using(run_after=timedelta(hours=1)), 1)

        [item] = testing.run_fired()

        assert item.status is Status.SUCCESSFUL
