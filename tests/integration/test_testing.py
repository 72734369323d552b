"""`bgtasks.testing`: captured tasks, how they run and are asserted, and the state after live mode."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import datetime
import logging
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import pytest
from asgiref.sync import async_to_sync
from django.core.management import call_command
from django.db import transaction
from django.test import SimpleTestCase
from django.utils import timezone, translation

import bgtasks
from bgtasks.api import get_runtime
from bgtasks.models import BackgroundTask
from bgtasks.runtime.runner import Runner
from bgtasks.testing import arun_fired, assert_fired, assert_not_fired, each_test, fired, live, run_fired
from bgtasks.testing.capture import CapturingRuntime

from ..conftest import Runtime, wait_until

ROOT = Path(__file__).resolve().parents[2]
tenant = contextvars.ContextVar("tenant", default="nobody")


@bgtasks.task
async def welcome(user_id: int, greeting: str = "hello", *names: str, **options: object) -> str:
    return f"{greeting} {user_id}"


@bgtasks.task
def resize(size: object, when: object = None) -> object:
    return [size, when]


@bgtasks.task
async def report() -> list[object]:
    context = bgtasks.current()
    return [context.name, context.attempt, tenant.get(), translation.get_language()]


@bgtasks.task
def report_in_a_thread() -> list[object]:
    return [bgtasks.current().name, tenant.get(), translation.get_language(), threading.current_thread().name]


@bgtasks.task
async def tell_the_asyncio_task() -> str:
    return await _tell_name()


async def _tell_name() -> str:
    task = asyncio.current_task()
    assert task is not None
    return task.get_name()


@bgtasks.task
async def fail(kind: str) -> None:
    raise {"value": ValueError, "exit": SystemExit, "cancelled": asyncio.CancelledError}[kind](kind)


@bgtasks.task
async def again() -> None:
    bgtasks.fire(again)


@bgtasks.task(on_lost="rerun")
async def hang() -> None:
    await asyncio.Event().wait()


async def notify(to: str, polite: bool = True) -> str:
    return f"{to} {polite}"


@pytest.fixture(autouse=True)
def begin_test(fresh_runtime: None) -> Iterator[None]:
    """Do the work of the plugin, which may not be installed."""
    each_test.begin_test()
    yield
    each_test.begin_test()


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "bgtasks")


# Capturing.


def test_nothing_is_started():
    handle = bgtasks.fire(welcome, 5)

    assert handle.status is bgtasks.Status.READY
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("bgtasks-")] == []
    assert isinstance(get_runtime(), CapturingRuntime)


def test_an_item_says_what_was_fired():
    handle = bgtasks.fire(welcome, 5, "good day", "Ada", polite=(1, 2))
    [item] = fired

    assert (item.task, item.name, item.handle) == (welcome, welcome.name, mock.ANY)
    assert item.handle.id == handle.id
    assert (item.args, item.kwargs) == ((5, "good day", "Ada"), {"polite": [1, 2]})
    assert item.arguments == {"user_id": 5, "greeting": "good day", "names": ("Ada",), "polite": [1, 2]}
    assert (item.status, item.error) == (bgtasks.Status.READY, None)
    assert str(item).endswith("welcome(user_id=5, greeting='good day', names=('Ada',), polite=[1, 2])")


def test_arguments_are_checked_as_ever():
    with pytest.raises(TypeError, match="user_id"):
        bgtasks.fire(welcome)
    with pytest.raises(TypeError, match="JSON cannot hold"):
        bgtasks.fire(welcome, object())
    with pytest.raises(ValueError, match="NaN"):
        bgtasks.fire(welcome, float("nan"))
    with pytest.raises(TypeError, match="bgtasks fires"):
        bgtasks.fire(len, "a")
    with pytest.raises(TypeError, match="only `name=`"):
        bgtasks.fire(notify("Ada"), title="x")  # Closed, or Python would warn.
    assert fired == []


def test_a_copy_is_kept():
    parts = ["a"]
    bgtasks.fire(resize, parts)
    parts.append("b")

    assert fired[0].args == (["a"],)


def test_every_thread_is_seen():
    thread = threading.Thread(target=bgtasks.fire, args=(welcome, 5))
    thread.start()
    thread.join()

    assert_fired(welcome, 5)


def test_tasks_of_a_transaction_that_is_rolled_back_are_forgotten(transactional_db: None):
    with transaction.atomic():
        bgtasks.fire(welcome, 5)
        bgtasks.fire(welcome.using(fire_on_commit=False), 6)
        transaction.set_rollback(True)

    assert [item.args for item in fired] == [(6,)]


def test_clear_closes_coroutine_objects():
    coroutine = notify("Ada")
    handle = bgtasks.fire(coroutine, name="notify")
    fired.clear()

    assert coroutine.cr_frame is None
    assert (fired, bgtasks.live_tasks(), run_fired()) == ([], [], [])
    assert handle.status is bgtasks.Status.READY


@pytest.mark.django_db
@pytest.mark.parametrize("how", ["option", "setting"])
def test_a_task_that_does_not_wait_for_the_commit_survives_a_rollback(how: str, settings):
    task = welcome.using(fire_on_commit=False) if how == "option" else welcome
    settings.BGTASKS = {**settings.BGTASKS, "FIRE_ON_COMMIT": how == "option"}
    with transaction.atomic():
        handle = bgtasks.fire(task, 5)
        transaction.set_rollback(True)

    assert [item.status for item in run_fired()] == [bgtasks.Status.SUCCESSFUL]
    assert handle.status is bgtasks.Status.SUCCESSFUL


@pytest.mark.django_db
def test_a_task_whose_savepoint_is_rolled_back_is_forgotten():
    with transaction.atomic():
        handle = bgtasks.fire(welcome, 5)
        transaction.set_rollback(True)

    assert (fired, bgtasks.live_tasks()) == ([], [])
    with pytest.raises(bgtasks.RolledBack):
        handle.status  # noqa: B018


async def test_afire_returns_at_once():
    handle = await bgtasks.afire(notify, "Ada")

    assert fired[0].handle.id == handle.id
    assert fired[0].arguments == {"to": "Ada", "polite": True}


async def test_awaiting_what_was_not_run_raises_at_once():
    handle = bgtasks.fire(welcome, 5)

    with pytest.raises(RuntimeError, match="run_fired"):
        await handle
    with pytest.raises(RuntimeError, match="live mode"):
        await handle.wait(timeout=60)


async def test_cancel():
    handle = bgtasks.fire(welcome, 5)

    assert handle.cancel()
    assert await arun_fired() == []
    with pytest.raises(bgtasks.TaskCancelled):
        await handle
    assert not handle.cancel()


async def test_the_rest_of_the_face():
    handle = bgtasks.fire(welcome, 5)

    assert [live.id for live in bgtasks.live_tasks()] == [handle.id]
    assert bgtasks.pending_task_count() == 1
    assert (await bgtasks.drain()).running_at_start == 0
    bgtasks.fire(welcome, 6)  # A drain ends no captured task.
    await arun_fired()
    assert bgtasks.pending_task_count() == 0


@pytest.mark.parametrize(
    "script", ["", "from django.core import mail; mail.get_connection(LOCMEM)"], ids=["", "locmem"]
)
def test_nothing_is_captured_outside_tests(script: str):
    code = f"""
import os, django; django.setup()
LOCMEM = "django.core.mail.backends.locmem.EmailBackend"
{script}
import django.test.utils
from bgtasks.api import get_runtime
print(type(get_runtime()).__name__, flush=True)
os._exit(0)  # It need not wait for a database.
"""
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)

    assert done.stdout.strip() == Runner.__name__, done.stderr


def test_an_emptied_outbox_is_no_new_test(settings):
    from django.core import mail

    bgtasks.fire(welcome, 5)
    mail.outbox = []

    assert len(fired) == 1


def test_each_test_of_djangos_classes_begins_anew():
    seen = []

    class Case(SimpleTestCase):
        def test_one(self) -> None:
            seen.append(len(fired))
            bgtasks.fire(welcome, 5)
            seen.append(len(fired))

    bgtasks.fire(welcome, 4)
    bgtasks.fire(welcome, 4)
    for _ in range(2):
        Case("test_one")()

    assert seen == [0, 1, 0, 1]
    assert fired == []


# Running.


def test_run_fired_runs_what_tasks_fire():
    bgtasks.fire(notify, "Ada")
    bgtasks.fire(resize, 5)
    handle = bgtasks.fire(notify("Bob", polite=False), name="notify")

    assert [item.status for item in run_fired()] == [bgtasks.Status.SUCCESSFUL] * 3
    assert handle.status is bgtasks.Status.SUCCESSFUL
    assert len(fired) == 3
    assert run_fired() == []


async def test_results_are_on_the_handles():
    handles = [bgtasks.fire(welcome, 5), bgtasks.fire(resize, (1, 2)), bgtasks.fire(notify("Ada"))]
    await arun_fired()

    assert [await handle for handle in handles] == ["hello 5", [[1, 2], None], "Ada True"]


@pytest.mark.parametrize("function", [report, report_in_a_thread])
async def test_tasks_have_their_callers_context(function: bgtasks.definition.Task):
    with translation.override("de"):
        token = tenant.set("acme")
        handle = bgtasks.fire(function)
        tenant.reset(token)
    await arun_fired()

    assert (await handle)[0] == function.name
    assert {"acme", "de"} <= set(await handle)


@pytest.mark.parametrize("function", [report, report_in_a_thread])
def test_tasks_have_the_language_of_another_caller(function: bgtasks.definition.Task):
    with translation.override("de"):
        handle = bgtasks.fire(function)
    with translation.override("fr"):
        run_fired()

    assert "de" in handle.result()


@pytest.mark.parametrize("function", [report, report_in_a_thread])
def test_tasks_have_the_language_of_a_caller_in_another_thread(function: bgtasks.definition.Task):
    def fire() -> None:
        with translation.override("de"):
            bgtasks.fire(function)

    with ThreadPoolExecutor(1) as caller:  # It goes on: a later thread may have the number of one that has ended.
        caller.submit(fire).result()
        [item] = run_fired()

    assert "de" in async_to_sync(item.handle.wait)()


async def test_asyncio_tasks_are_called_as_those_of_the_runtime():
    bgtasks.fire(tell_the_asyncio_task)
    bgtasks.fire(_tell_name(), name="by hand")
    await arun_fired()

    assert [await item.handle for item in fired] == [tell_the_asyncio_task.loop_name, "by hand"]


def test_plain_functions_run_in_the_thread_of_the_test():
    bgtasks.fire(report_in_a_thread)
    [item] = run_fired()

    assert asyncio.run(item.handle.wait())[-1] == threading.current_thread().name


def test_errors_are_raised_as_they_are():
    bgtasks.fire(fail, "value")
    bgtasks.fire(welcome, 5)

    with pytest.raises(ValueError, match="value"):
        run_fired()
    assert [item.status for item in fired] == [bgtasks.Status.FAILED, bgtasks.Status.READY]
    assert isinstance(fired[0].error, ValueError)
    assert [item.task for item in run_fired()] == [welcome]


async def test_errors_can_be_left_on_the_handles():
    handle = bgtasks.fire(fail, "value")
    bgtasks.fire(welcome, 5)

    assert len(await arun_fired(raise_errors=False)) == 2
    with pytest.raises(bgtasks.TaskFailed) as caught:
        await handle
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("kind", ["exit", "cancelled"])
def test_what_would_end_the_test_never_leaves_the_task(kind: str):
    bgtasks.fire(fail, kind)

    with pytest.raises(bgtasks.TaskFailed, match=kind):
        run_fired()
    assert fired[0].status is bgtasks.Status.FAILED


def test_tasks_that_fire_each_other_without_end():
    bgtasks.fire(again)

    with pytest.raises(RuntimeError, match=r"without end"):
        run_fired()


async def test_run_fired_on_a_loop():
    with pytest.raises(RuntimeError, match="arun_fired"):
        run_fired()


async def test_arun_fired_that_is_cancelled_cancels_its_task():
    handle = bgtasks.fire(hang)
    running = asyncio.create_task(arun_fired())
    while handle.status is bgtasks.Status.READY:
        await asyncio.sleep(0)
    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
    with pytest.raises(bgtasks.TaskInterrupted):
        await handle


async def test_a_running_task_can_be_cancelled():
    handle = bgtasks.fire(hang)
    running = asyncio.create_task(arun_fired())
    while handle.status is bgtasks.Status.READY:
        await asyncio.sleep(0)
    assert handle.cancel()

    [item] = await running
    assert item.status is bgtasks.Status.CANCELLED


async def test_a_task_that_is_cancelled_before_its_first_step_has_not_begun():
    begun = []

    async def note() -> None:
        begun.append(True)

    handle = bgtasks.fire(note)
    asyncio.get_running_loop().call_soon(handle.cancel)  # The first step is planned after it.
    [item] = await arun_fired()

    assert item.status is bgtasks.Status.CANCELLED
    assert begun == []


async def test_a_task_that_ignores_its_cancellation_is_logged(settings, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.WARNING, "bgtasks")
    settings.BGTASKS = {**settings.BGTASKS, "CANCEL_GRACE": 0.01}
    has_begun, is_over = asyncio.Event(), asyncio.Event()

    async def ignore() -> None:
        has_begun.set()
        while not is_over.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await is_over.wait()

    handle = bgtasks.fire(ignore)
    running = asyncio.create_task(arun_fired())
    await has_begun.wait()
    handle.cancel()
    try:
        await wait_until(lambda: "ignores its cancellation" in caplog.text)
    finally:
        is_over.set()
    await running


async def test_a_request_to_cancel_keeps_a_task_from_being_tried_again():
    is_past_timeout = asyncio.Event()

    @bgtasks.task(timeout=0.01, max_attempts=2)
    async def outlast() -> None:
        for _ in range(2):  # The timeout, and the request.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            is_past_timeout.set()
        raise ValueError

    handle = bgtasks.fire(outlast)
    running = asyncio.create_task(arun_fired(raise_errors=False))
    await is_past_timeout.wait()
    handle.cancel()

    [item] = await running
    assert item.status is bgtasks.Status.CANCELLED


# Asserting.


def test_arguments_are_compared_as_the_task_gets_them():
    number, day = uuid.uuid4(), datetime.date(2024, 2, 29)
    bgtasks.fire(resize, (1, 2), when=day)
    bgtasks.fire(resize, number)
    bgtasks.fire(welcome, 5, "hi", "Ada", polite=True)

    assert assert_fired(resize, [1, 2]) is assert_fired(resize, size=(1, 2)) is fired[0]
    assert assert_fired(resize, when=day) is assert_fired(resize, when="2024-02-29") is fired[0]
    assert assert_fired(resize, number) is assert_fired(resize, when=None) is fired[1]
    assert assert_fired(welcome) is assert_fired(welcome.using(on_lost="rerun"), 5) is fired[2]
    assert assert_fired(welcome.name, user_id=mock.ANY, polite=True) is fired[2]
    assert_fired(welcome, 5, "hi", "Ada")
    assert_not_fired(welcome, 5, "hi", "Bob")
    assert_not_fired(welcome, 5, polite=False)
    assert_not_fired(notify)


def test_coroutine_functions_and_objects_are_found():
    bgtasks.fire(notify, "Ada")
    bgtasks.fire(notify("Bob"), name="notify:bob")

    assert assert_fired(notify, to="Ada", polite=True) is fired[0]
    assert assert_fired("notify:bob") is fired[1]
    with pytest.raises(TypeError, match="not known"):
        assert_fired("notify:bob", "Bob")


def test_messages_list_what_was_fired():
    with pytest.raises(AssertionError, match="Nothing was fired"):
        assert_fired(welcome)
    bgtasks.fire(welcome, 7)
    bgtasks.fire(notify("Bob"), name="notify:bob")

    with pytest.raises(AssertionError) as missing:
        assert_fired(welcome, 5, greeting="hi")
    with pytest.raises(AssertionError, match="was fired"):
        assert_not_fired(welcome, 7)
    assert str(missing.value).splitlines() == [
        f"{welcome.name}(5, greeting='hi') was not fired. Fired were:",
        f"  {welcome.name}(user_id=7, greeting='hello')",
        "  notify:bob (a coroutine object)",
    ]


def test_arguments_that_the_function_does_not_have():
    bgtasks.fire(resize, 5)

    with pytest.raises(TypeError, match="sise"):
        assert_fired(resize, sise=5)
    with pytest.raises(TypeError, match="task function"):
        assert_fired(5)  # type: ignore[arg-type]


# Live.


async def test_capture_begins_again_after_a_server_has_stopped(runtime):
    handle = bgtasks.fire(welcome, 5)
    assert await handle == "hello 5"
    assert fired == []
    with pytest.raises(RuntimeError, match="by themselves"):
        await arun_fired()
    with pytest.raises(AssertionError, match="live mode"):
        assert_fired(welcome)
    with pytest.raises(RuntimeError, match="already"):
        await live().__aenter__()
    await runtime.stop()
    each_test.begin_test()

    bgtasks.fire(welcome, 6)
    assert_fired(welcome, 6)


@pytest.mark.django_db(transaction=True)
def test_live_mode_waits_for_what_was_fired():
    with live():
        handle = bgtasks.fire(welcome, 5)
        with pytest.raises(RuntimeError, match="already"), live():
            pass

    assert handle.status is bgtasks.Status.SUCCESSFUL
    assert BackgroundTask.objects.get().status == bgtasks.Status.SUCCESSFUL
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("bgtasks-")] == []
    bgtasks.fire(welcome, 6)
    assert len(fired) == 1


@pytest.mark.django_db(transaction=True)
async def test_a_server_that_stopped_without_a_start_takes_no_time_from_live_mode(monkeypatch: pytest.MonkeyPatch):
    bgtasks.fire(welcome, 5)
    server = Runtime()
    server.begin()
    with monkeypatch.context() as patches:
        patches.setattr("bgtasks.apps.SLACK", -3600)  # As if it had stopped an hour ago.
        await server.stop()
    assert_fired(welcome, 5)
    async with live():
        bgtasks.fire(welcome, 6)

    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("bgtasks-")] == []


@pytest.mark.django_db(transaction=True)
def test_live_mode_cuts_short_what_has_no_end():
    with live(timeout=0):
        bgtasks.fire(hang.using(on_lost="fail"))

    assert BackgroundTask.objects.get().status == bgtasks.Status.INTERRUPTED


@pytest.mark.django_db(transaction=True)
async def test_live_mode_does_not_wait_after_an_error():
    mode = live(timeout=3600)
    await mode.__aenter__()
    handle = bgtasks.fire(hang.using(on_lost="fail"))
    await mode.__aexit__(ZeroDivisionError, ZeroDivisionError(), None)

    with pytest.raises(bgtasks.TaskInterrupted):
        await handle


@pytest.mark.django_db(transaction=True)
async def test_live_mode_has_another_form_in_async_code(monkeypatch):
    monkeypatch.delenv("DJANGO_ALLOW_ASYNC_UNSAFE", raising=False)
    with pytest.raises(RuntimeError, match="async with live"), live():
        pass


@pytest.mark.django_db(transaction=True)
def test_commands_run_tasks():
    BackgroundTask.objects.create(name=resize.name, args=[5], kwargs={}, created_at=timezone.now())
    call_command("run_tasks", "--once", stdout=mock.Mock())

    assert BackgroundTask.objects.get().status == bgtasks.Status.SUCCESSFUL
    each_test.begin_test()
    bgtasks.fire(welcome, 5)
    assert len(fired) == 1
