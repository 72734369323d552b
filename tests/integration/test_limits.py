"""Limits on running tasks, on starts in a period, on waiting tasks; and pauses."""

from __future__ import annotations

import asyncio
import io
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.admin.models import ADDITION, DELETION, LogEntry
from django.core.management import CommandError, call_command
from django.test import RequestFactory
from django.utils import timezone

import bgtasks
from bgtasks.api import get_runner
from bgtasks.conf import find_problems
from bgtasks.definition.rate import Rate, parse_rate
from bgtasks.middleware import OverloadedMiddleware
from bgtasks.models import BackgroundTask, Pause, RateLimit
from bgtasks.status import Status
from tests.app import tasks
from tests.conftest import Runtime, read_row, wait_until
from tests.waiting import astays


class Highest:
    """Counts how many tasks are inside at once."""

    def __init__(self) -> None:
        self.now = self.most = self.all = 0

    @contextmanager
    def inside(self) -> Iterator[None]:
        self.now += 1
        self.all += 1
        self.most = max(self.most, self.now)
        try:
            yield
        finally:
            self.now -= 1


async def are_ready(handles: list[Any]) -> bool:
    return {(await reload(handle)).status for handle in handles} == {"READY"}


@pytest.fixture
def highest() -> Highest:
    return Highest()


async def test_a_function_runs_so_often_at_once(runtime: Runtime, highest: Highest) -> None:
    @bgtasks.task(name="two", max_running=2)
    async def two(number: int) -> int:
        with highest.inside():
            await asyncio.sleep(0.01)
        return number

    handles = [bgtasks.fire(two, number) for number in range(20)]
    handles += list(await asyncio.gather(*[bgtasks.afire(two, number) for number in range(20, 30)]))
    # Waiting tasks do not block other functions.
    assert await bgtasks.fire(tasks.succeed, 5).wait(timeout=20) == 5

    assert [await handle.wait(timeout=30) for handle in handles] == list(range(30))
    assert highest.most == 2


async def test_what_is_not_limited_never_waits_in_the_table(runtime: Runtime, highest: Highest) -> None:
    gate = asyncio.Event()

    @bgtasks.task(name="one", max_running=1)
    async def one() -> None:
        with highest.inside():
            await gate.wait()

    limited = [bgtasks.fire(one) for _ in range(3)]
    await wait_until(lambda: count("READY", 2))
    await astays(lambda: count("READY", 2), 0.1, why="twice POLL_INTERVAL, the time between two claims")
    others = [bgtasks.fire(tasks.succeed, number) for number in range(20)]
    for handle in others:
        await handle.wait(timeout=20)
    rows = [await read_row(handle) for handle in others]

    assert {row.transitions[0]["status"] for row in rows} == {"RUNNING"}
    gate.set()
    for handle in limited:
        await handle.wait(timeout=20)
    assert highest.most == 1


async def test_a_limit_is_given_back_however_a_task_ends(runtime: Runtime) -> None:
    @bgtasks.task(name="ends", max_running=1, timeout=5)
    async def ends(how: str) -> None:
        if how == "raise":
            raise ValueError(how)
        if how == "wait":
            await asyncio.sleep(60)

    for how in ["return", "raise", "wait"] * 3:
        handle = bgtasks.fire(ends, how)
        await wait_until(lambda handle=handle: has_started(handle))
        if how == "wait":
            handle.cancel()
        with pytest.raises((bgtasks.TaskCancelled, bgtasks.TaskFailed)) if how != "return" else nullcontext():
            await handle.wait(timeout=20)


@pytest.fixture
def narrow(settings: Any) -> None:
    settings.BGTASKS = {**settings.BGTASKS, "QUEUES": {"narrow": {"MAX_RUNNING": 2}}}


async def test_a_queue_runs_so_many_at_once(narrow: None, runtime: Runtime, highest: Highest) -> None:
    @bgtasks.task(name="a", queue="narrow")
    async def a() -> None:
        with highest.inside():
            await asyncio.sleep(0.01)

    @bgtasks.task(name="b", max_running=1)
    async def b() -> None:
        with highest.inside():
            await asyncio.sleep(0.01)

    handles = [bgtasks.fire(a) for _ in range(10)]
    handles += [bgtasks.fire(b.using(queue="narrow")) for _ in range(10)]
    for handle in handles:
        await handle.wait(timeout=30)
    assert highest.all == 20
    assert highest.most == 2


async def test_a_rate_bounds_the_starts_of_any_period(runtime: Runtime) -> None:
    starts: list[float] = []

    @bgtasks.task(name="rated", rate="5/0.5s")
    async def rated(number: int) -> int:
        starts.append(time.monotonic())
        return number

    handles = [bgtasks.fire(rated, number) for number in range(23)]
    assert [await handle.wait(timeout=60) for handle in handles] == list(range(23))

    assert len(starts) == 23
    closest = min(later - earlier for earlier, later in zip(starts, starts[5:], strict=False))
    assert closest >= 0.5
    limit = await RateLimit.objects.aget()
    assert limit.name == "function rated"


async def test_a_rate_by_its_key(runtime: Runtime) -> None:
    @bgtasks.task(name="by key", rate="1/h")
    async def call(account: str) -> str:
        return account

    first = [bgtasks.fire(call.using(rate_key=account), account) for account in ("x", "y")]
    second = [bgtasks.fire(call.using(rate_key=account), account) for account in ("x", "y")]

    assert [await handle.wait(timeout=20) for handle in first] == ["x", "y"]
    await astays(lambda: are_ready(second), 1, why="twenty times POLL_INTERVAL, the time between two claims")
    assert {name async for name in RateLimit.objects.values_list("name", flat=True)} == {"key x", "key y"}


@pytest.fixture
def short(settings: Any) -> None:
    settings.BGTASKS = {**settings.BGTASKS, "QUEUES": {"short": {"MAX_RUNNING": 1, "MAX_WAITING": 3}}}


async def test_a_full_queue_takes_no_more(short: None, runtime: Runtime) -> None:
    @bgtasks.task(name="slow", queue="short")
    async def slow() -> None:
        await asyncio.sleep(0.05)

    handles = [bgtasks.fire(slow) for _ in range(4)]
    with pytest.raises(bgtasks.Overloaded, match="'short'") as caught:
        bgtasks.fire(slow)
    with pytest.raises(bgtasks.Overloaded):
        await bgtasks.afire(slow)
    assert caught.value.retry_after > 0
    assert await bgtasks.fire(tasks.succeed, 1).wait(timeout=20) == 1  # Another queue.

    for handle in handles:
        await handle.wait(timeout=20)

    async def takes() -> bool:
        try:
            bgtasks.fire(slow)
        except bgtasks.Overloaded:
            return False
        return True

    await wait_until(takes)


def test_an_overload_is_answered_by_503() -> None:
    def view(request: object) -> None:
        raise AssertionError

    answer = OverloadedMiddleware(view).process_exception(
        RequestFactory().get("/"), bgtasks.Overloaded("full", retry_after=2.3)
    )
    assert answer is not None
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "3")
    assert OverloadedMiddleware(view).process_exception(RequestFactory().get("/"), ValueError()) is None


@pytest.mark.parametrize("option", [[], ["--queue"]])
async def test_what_is_paused_waits(runtime: Runtime, option: list[str]) -> None:
    @bgtasks.task(name="pausable", queue="held")
    async def pausable() -> int:
        return 5

    name = "held" if option else "pausable"
    running = bgtasks.fire(tasks.sleep, 0.5)
    await sync_to_async(call_command)("pause_tasks", name, *option)
    await wait_until(lambda: is_paused("held" if option else "pausable"))

    handle = bgtasks.fire(pausable)
    acknowledged = await bgtasks.afire(pausable)
    assert await bgtasks.fire(tasks.succeed, 1).wait(timeout=20) == 1
    assert await running.wait(timeout=20) == 0.5
    why = "fourteen times POLL_INTERVAL, the time between two claims"
    await astays(lambda: are_ready([handle, acknowledged]), 0.7, why=why)

    await sync_to_async(call_command)("resume_tasks", name, *option)
    assert await handle.wait(timeout=20) == 5
    assert await acknowledged.wait(timeout=20) == 5
    assert not await Pause.objects.aexists()


async def test_isolated_has_a_thread_of_its_own(runtime: Runtime, highest: Highest) -> None:
    names = set()

    @bgtasks.task(name="isolated", isolated=True)
    async def isolated() -> None:
        names.add(await sync_to_async(lambda: threading.current_thread().name)())
        with highest.inside():
            await asyncio.sleep(0.05)

    for handle in [bgtasks.fire(isolated) for _ in range(10)]:
        await handle.wait(timeout=20)
    assert highest.most == 4
    assert all("isolated" in name for name in names), names
    assert 1 < len(names) <= 4


async def count(status: str, number: int) -> bool:
    return await BackgroundTask.objects.filter(status=status).acount() == number


async def reload(handle: bgtasks.TaskHandle[Any]) -> BackgroundTask:
    return await BackgroundTask.objects.aget(pk=handle.id)


async def has_started(handle: bgtasks.TaskHandle[Any]) -> bool:
    return handle.status is not Status.READY


async def is_paused(name: str) -> bool:
    limits = get_runner().limits
    return name in limits.paused_functions | limits.paused_queues


# Pauses by hand.


@pytest.fixture
def declared_task() -> str:
    bgtasks.task(name="mail.send", queue="mail")(tasks.succeed.func)
    return "mail.send"


def run(command: str, *arguments: str) -> tuple[int, str]:
    out = io.StringIO()
    try:
        call_command(command, *arguments, stdout=out)
    except SystemExit as error:
        return int(str(error.code)), out.getvalue()
    except CommandError as error:
        return error.returncode, str(error)
    return 0, out.getvalue()


@pytest.mark.django_db
def test_the_commands_list_pauses(declared_task: str) -> None:
    assert run("pause_tasks") == (0, "Nothing is paused.\n")
    assert run("pause_tasks", "mail.send") == (0, "Task function mail.send is paused.\n")
    assert run("pause_tasks", "mail.send") == (0, "Task function mail.send was paused already.\n")
    assert run("pause_tasks", "mail", "--queue") == (0, "Queue mail is paused.\n")
    assert "mail.send" in run("pause_tasks")[1]
    found = json.loads(run("pause_tasks", "--format", "json")[1])
    assert [(row["kind"], row["name"]) for row in found["pauses"]] == [("function", "mail.send"), ("queue", "mail")]
    assert all(row["paused_by"].startswith("pause_tasks, ") for row in found["pauses"])

    assert run("resume_tasks", "mail.send", "other") == (
        1,
        "Task function mail.send goes on.\nTask function other was not paused.\n",
    )
    assert json.loads(run("resume_tasks", "mail", "--queue", "--format", "json")[1]) == {
        "resumed": ["mail"],
        "not_paused": [],
    }
    assert not Pause.objects.exists()


@pytest.mark.django_db
def test_a_slip_of_the_pen_pauses_nothing(declared_task: str) -> None:
    status, output = run("pause_tasks", "mail.sent")
    assert (status, output) == (
        2,
        "No task function is called mail.sent. Did you mean mail.send? With --force it is paused all the same.",
    )
    assert run("pause_tasks", "x" * 201)[0] == 2
    assert not Pause.objects.exists()
    assert run("pause_tasks", "mail.sent", "--force")[0] == 0
    assert Pause.objects.get().name == "mail.sent"


@pytest.mark.django_db
def test_what_is_paused_is_not_stuck(declared_task: str) -> None:
    long_ago = timezone.now() - timedelta(hours=1)
    for name, queue in (("mail.send", "mail"), ("other", "mail"), ("other", "default")):
        BackgroundTask.objects.create(name=name, queue_name=queue, created_at=long_ago)
    assert len(json.loads(run("stuck_tasks", "--format", "json")[1])["tasks"]) == 3

    run("pause_tasks", "mail.send")
    assert len(json.loads(run("stuck_tasks", "--format", "json")[1])["tasks"]) == 2
    run("pause_tasks", "mail", "--queue")
    assert len(json.loads(run("stuck_tasks", "--format", "json")[1])["tasks"]) == 1


@pytest.mark.django_db
def test_the_admin_pauses_and_resumes(admin_client: Any, declared_task: str) -> None:
    address = "/admin/bgtasks/pause/"
    page = admin_client.get(f"{address}add/").content.decode()
    assert '<option value="mail.send">' in page

    refused = admin_client.post(f"{address}add/", {"kind": "function", "name": "<b>mail"}).content.decode()
    assert "No task function here is called so" in refused
    assert "<b>mail" not in refused
    assert admin_client.post(f"{address}add/", {"kind": "function", "name": "mail.send"}).status_code == 302
    pause = Pause.objects.get()
    assert (pause.name, pause.paused_by) == ("mail.send", "admin")
    assert "mail.send" in admin_client.get(address).content.decode()

    asked = {"action": "delete_selected", "_selected_action": [str(pause.pk)]}
    assert "1 pause is over." in admin_client.post(address, asked, follow=True).content.decode()
    assert not Pause.objects.exists()
    assert [entry.action_flag for entry in LogEntry.objects.order_by("pk")] == [ADDITION, DELETION]


@pytest.mark.parametrize(
    ("queues", "words"),
    [
        ([], "not of type dict"),
        ({"mail": 5}, "not a dictionary"),
        ({"mail": {"MAX": 5}}, "unknown key 'MAX'"),
        ({"mail": {"MAX_RUNNING": 0}}, "is 0"),
        ({"mail": {"MAX_WAITING": True}}, "is True"),
        ({5: {}}, "not the name of a queue"),
    ],
)
def test_wrong_queues_are_reported(queues: Any, words: str) -> None:
    [(problem, fix)] = find_problems({"QUEUES": queues})
    assert words in problem
    assert fix


@pytest.mark.parametrize("wrong", ["5", "5/", "0/s", "5/w", "5/0s", "-5/s", "1/31d", "5 per second", ""])
def test_a_wrong_rate_is_reported(wrong: str) -> None:
    with pytest.raises(ValueError, match="rate must be a number and a period"):
        bgtasks.task(name="wrong", rate=wrong)(tasks.succeed.func)


@pytest.mark.parametrize(
    ("right", "rate"),
    [("5/s", Rate(5, 1)), ("100/m", Rate(100, 60)), ("10/2.5h", Rate(10, 9000)), ("1/30d", Rate(1, 2592000))],
)
def test_a_rate_is_read(right: str, rate: Rate) -> None:
    assert parse_rate(right) == rate
