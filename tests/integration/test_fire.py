"""Firing from async code: accepted and refused functions, and their rows."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import itertools
import logging
from collections.abc import Coroutine
from datetime import date
from typing import Any

import pytest
from asgiref.sync import markcoroutinefunction
from django.contrib.auth.models import Group
from django.utils import translation

import bgtasks
from bgtasks.models import BackgroundTask
from bgtasks.status import Status, may_follow
from tests.app import tasks
from tests.conftest import Runtime, read_row, wait_until
from tests.waiting import next_turn

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


async def echo(value: Any = None) -> Any:
    return value


class Notifier:
    async def send(self, to: str) -> str:
        return f"sent to {to}"


async def test_a_task_function(runtime: Runtime) -> None:
    handle = bgtasks.fire(tasks.succeed, "value")

    assert handle.status is Status.RUNNING
    assert await handle == "value"
    row = await read_row(handle)
    assert (row.status, row.name, row.args, row.kwargs) == ("SUCCESSFUL", "tests.app.tasks.succeed", ["value"], {})
    assert (row.attempt, row.max_attempts, row.on_lost, row.result) == (1, 1, "fail", "value")
    assert row.created_at <= row.started_at <= row.finished_at
    assert [entry["status"] for entry in row.transitions] == ["RUNNING", "SUCCESSFUL"]
    assert set(row.transitions[0]) == {"status", "at", "attempt", "by", "why"}
    assert row.process == row.origin
    assert str(row.process) == row.transitions[0]["by"]


async def test_a_plain_function_runs_in_a_thread_of_its_own(runtime: Runtime) -> None:
    handles = [bgtasks.fire(tasks.use_orm_in_thread, number) for number in range(20)]
    results = await asyncio.gather(*handles)
    assert max(results) == 20
    assert await Group.objects.acount() == 20


async def test_a_coroutine_function_a_method_and_a_partial(runtime: Runtime) -> None:
    assert await bgtasks.fire(echo, 5) == 5
    assert await bgtasks.fire(echo, value=6) == 6
    handle = bgtasks.fire(Notifier().send, "Ann")
    assert await handle == "sent to Ann"
    assert handle.name == f"{__name__}.Notifier.send"
    assert (await read_row(handle)).args == ["Ann"]


async def test_a_function_that_is_only_marked_runs_nothing_inside_fire(runtime: Runtime) -> None:
    called: list[int] = []

    @markcoroutinefunction
    def marked(value: int) -> Coroutine[Any, Any, int]:
        called.append(value)
        return echo(value)

    handle = bgtasks.fire(marked, 5)
    declared_handle = bgtasks.fire(bgtasks.task(name="marked")(marked), 6)
    assert called == []
    assert await handle == 5
    assert await declared_handle == 6


async def test_a_coroutine_object(runtime: Runtime) -> None:
    named = bgtasks.fire(echo(5), name="notify:ann")
    bare = bgtasks.fire(echo(6))

    assert await named == 5
    assert await bare == 6
    assert (named.name, bare.name) == ("notify:ann", f"{__name__}.echo")
    row = await read_row(named)
    assert (row.args, row.on_lost, row.status) == ([], "fail", "SUCCESSFUL")


async def test_all_keywords_are_the_functions(runtime: Runtime) -> None:
    @bgtasks.task(name="keywords")
    async def keywords(task: int, name: str, self: int, args: int) -> list[Any]:
        return [task, name, self, args]

    assert await bgtasks.fire(keywords, task=1, name="n", self=2, args=3) == [1, "n", 2, 3]
    assert await (await bgtasks.afire(keywords, task=1, name="n", self=2, args=3)) == [1, "n", 2, 3]


async def test_afire_returns_when_the_row_is_committed(runtime: Runtime) -> None:
    for task, args in ((tasks.succeed, (1,)), (echo, (2,)), (echo(3), ())):
        handle = await bgtasks.afire(task, *args)
        assert await BackgroundTask.objects.filter(pk=handle.id).aexists()
        assert await handle in (1, 2, 3)


async def test_many_acknowledgements_at_once(runtime: Runtime) -> None:
    handles = await asyncio.gather(*[bgtasks.afire(tasks.succeed, number) for number in range(1500)])
    assert await asyncio.gather(*handles) == list(range(1500))


@pytest.mark.parametrize(
    ("fire", "match"),
    [
        (lambda: bgtasks.fire(lambda: None), "plain function without @bgtasks.task"),
        (lambda: bgtasks.fire(print, "x"), "plain function"),
        (lambda: bgtasks.fire(5), "none of these"),
        (lambda: bgtasks.fire("tests.app.tasks.succeed"), "none of these"),
        (lambda: bgtasks.fire(Notifier), "none of these"),
        (lambda: bgtasks.fire(functools.partial(print)), "none of these"),
        (lambda: bgtasks.fire(asyncio.get_running_loop().create_future()), "runs by itself"),
        (lambda: bgtasks.fire(tasks.succeed, 1, 2), "cannot take these arguments"),
        (lambda: bgtasks.fire(tasks.succeed, wrong=1), "wrong"),
        (lambda: bgtasks.fire(tasks.use_orm_in_thread), "number"),
        (lambda: bgtasks.fire(echo, 1, 2), "cannot take these arguments"),
        (lambda: bgtasks.fire(tasks.succeed, object()), "argument 'value' is a object"),
        (lambda: bgtasks.fire(echo, object()), "argument 'value' is a object.*coroutine object"),
        (lambda: bgtasks.fire(echo(1), 5), "has its arguments already"),
        (lambda: bgtasks.fire(echo(1), title="x"), "has its arguments already"),
        (lambda: bgtasks.fire(echo(1), name=5), "string"),
    ],
)
async def test_what_cannot_be_fired_is_a_type_error(runtime: Runtime, fire: Any, match: str) -> None:
    with pytest.raises(TypeError, match=match):
        fire()
    gc.collect()  # A refused coroutine object must be closed: otherwise it warns, and warnings are errors.
    assert bgtasks.pending_task_count() == 0


@pytest.mark.parametrize("name", ["", "a\0b", "\ud800", "x" * 201, "line\nbreak"])
async def test_a_hostile_name_is_a_value_error(runtime: Runtime, name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        bgtasks.fire(echo(1), name=name)
    with pytest.raises(ValueError, match="name"):
        await bgtasks.afire(echo(1), name=name)
    gc.collect()


async def test_a_started_coroutine_object_is_refused(runtime: Runtime) -> None:
    coroutine = asyncio.sleep(0)
    coroutine.send(None)
    with pytest.raises(TypeError, match="started already"):
        bgtasks.fire(coroutine)


@pytest.mark.parametrize("value", ["x" * 10_000_000, float("nan"), "a\0", "\ud800"])
async def test_hostile_arguments_are_value_errors_and_leave_nothing(runtime: Runtime, value: Any) -> None:
    for fire in (bgtasks.fire, bgtasks.afire):
        with pytest.raises(ValueError, match=r"tests\.app\.tasks\.succeed"):
            await fire(tasks.succeed, value)
    assert bgtasks.pending_task_count() == 0
    assert await BackgroundTask.objects.acount() == 0


@pytest.mark.parametrize(
    "name", ["'; DROP TABLE auth_group; --", "<script>alert(1)</script>", "%s %(x)s {0}", "💣" * 50]
)
async def test_hostile_but_printable_names_and_arguments_are_recorded(runtime: Runtime, name: str) -> None:
    handle = bgtasks.fire(echo(name), name=name)
    other = bgtasks.fire(tasks.succeed, {"key": name})
    row, other_row = await read_row(handle), await read_row(other)
    assert (row.name, row.result, other_row.args) == (name, name, [{"key": name}])


async def test_arguments_arrive_as_they_are_stored(runtime: Runtime) -> None:
    """A change of a list after `fire` has no effect. A tuple or a date arrives as JSON returns it."""
    items = [1, 2]
    handle = bgtasks.fire(tasks.succeed, {"items": items, "pair": (1, 2), "day": date(2026, 1, 2)})
    items.append(3)
    expected = {"items": [1, 2], "pair": [1, 2], "day": "2026-01-02"}
    assert await handle == expected
    assert (await read_row(handle)).args == [expected]


async def test_a_failure_is_recorded_and_logged_once(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="bgtasks"):
        handle = bgtasks.fire(tasks.fail, "no such user")
        with pytest.raises(bgtasks.TaskFailed, match="no such user") as caught:
            await handle
        row = await read_row(handle)

    assert isinstance(caught.value.__cause__, ValueError)
    assert caught.value.id == handle.id
    assert (row.status, row.error_type, row.error_message) == ("FAILED", "ValueError", "no such user")
    assert row.traceback.startswith("Traceback (most recent call last):\n")
    assert "in fail\n    raise ValueError(message)\n" in row.traceback
    assert "attempt.py" not in row.traceback
    assert len(row.error_fingerprint) == 16
    [logged] = [found for found in caplog.records if found.levelno == logging.ERROR]
    assert "tests.app.tasks.fail" in logged.getMessage()
    assert logged.exc_info is not None
    assert (logged.task_id, logged.task_name, logged.attempt) == (str(handle.id), handle.name, 1)
    assert logged.error_fingerprint == row.error_fingerprint


class StrRaises(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt("from __str__")


HOSTILE_ERRORS: dict[str, Any] = {
    "str-raises": StrRaises,
    "long": lambda: ValueError("x" * 10_000_000),
    "nul": lambda: ValueError("a\0b"),
    "group": lambda: ExceptionGroup("group", [ValueError("one"), KeyError("two")]),
    "base-group": lambda: BaseExceptionGroup("group", [SystemExit(1)]),
    "system-exit": lambda: SystemExit(3),
    "keyboard-interrupt": KeyboardInterrupt,
    "cancelled": asyncio.CancelledError,
    "generator-exit": GeneratorExit,
    "stop-iteration": StopIteration,
    "stop-async-iteration": StopAsyncIteration,
    "timeout": TimeoutError,
}


@pytest.mark.parametrize("kind", HOSTILE_ERRORS)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_hostile_exceptions_fail_the_task_and_nothing_else(runtime: Runtime, kind: str, capsys: Any) -> None:
    async def raise_it() -> None:
        await asyncio.sleep(0)
        raise HOSTILE_ERRORS[kind]()

    handle = bgtasks.fire(raise_it(), name="hostile")
    with pytest.raises(bgtasks.TaskFailed):
        await handle
    row = await read_row(handle)
    assert row.status == "FAILED"
    assert row.error_type
    assert "Traceback" in row.traceback
    assert len(row.error_message) < 20_000
    assert await bgtasks.fire(tasks.succeed, "still here") == "still here"


@pytest.mark.parametrize("kind", ["system-exit", "keyboard-interrupt", "stop-iteration", "cancelled"])
async def test_hostile_exceptions_in_a_thread(runtime: Runtime, kind: str) -> None:
    @bgtasks.task(name="raises_in_thread")
    def raise_it() -> None:
        raise HOSTILE_ERRORS[kind]()

    handle = bgtasks.fire(raise_it)
    with pytest.raises(bgtasks.TaskFailed):
        await handle.wait(timeout=10)
    assert (await read_row(handle)).status == "FAILED"


async def test_a_result_that_cannot_be_stored_is_still_a_success(runtime: Runtime) -> None:
    for value, reason in ((object(), "TypeError"), ("x" * 70_000, "MAX_RESULT_BYTES"), (float("nan"), "ValueError")):
        handle = bgtasks.fire(echo(value))
        assert await handle is value
        row = await read_row(handle)
        assert (row.status, row.result) == ("SUCCESSFUL", None)
        assert reason in row.transitions[-1]["why"]


async def test_current(runtime: Runtime) -> None:
    @bgtasks.task(name="looks_at_itself")
    async def look() -> list[Any]:
        context = bgtasks.current()
        inner = await asyncio.create_task(look_deeper())
        return [str(context.id), context.name, context.attempt, context.draining, context.cancel_requested, inner]

    async def look_deeper() -> str:
        return str(bgtasks.current().id)

    handle = bgtasks.fire(look)
    assert await handle == [str(handle.id), "looks_at_itself", 1, False, False, str(handle.id)]
    with pytest.raises(RuntimeError, match="outside a task"):
        bgtasks.current()


async def test_current_in_a_thread_and_in_a_child(runtime: Runtime) -> None:
    @bgtasks.task(name="in_thread")
    def in_thread() -> str:
        return str(bgtasks.current().id)

    @bgtasks.task(name="parent")
    async def parent() -> list[str]:
        child = bgtasks.fire(in_thread)
        return [str(bgtasks.current().id), str(child.id), await child]

    own, child, seen = await bgtasks.fire(parent)
    assert child == seen != own


async def test_the_callers_context_is_kept(runtime: Runtime) -> None:
    async def look() -> tuple[str, str]:
        return variable.get(), translation.get_language()

    token = variable.set("from the caller")
    with translation.override("de"):
        handle = bgtasks.fire(look())
    variable.reset(token)
    assert await handle == ("from the caller", "de")


async def test_waiting_with_a_timeout_leaves_the_task_alone(runtime: Runtime) -> None:
    gate = asyncio.Event()
    handle = bgtasks.fire(gate.wait())
    with pytest.raises(TimeoutError):
        await handle.wait(timeout=0.01)
    assert handle.status is Status.RUNNING
    gate.set()
    assert await handle is True
    assert await handle is True


async def test_cancelling_who_waits_leaves_the_task_alone(runtime: Runtime) -> None:
    gate = asyncio.Event()
    handle = bgtasks.fire(gate.wait())
    waiting = asyncio.ensure_future(handle.wait())
    await next_turn()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.set()
    assert await handle is True


async def test_cancel(runtime: Runtime) -> None:
    at_once = bgtasks.fire(tasks.sleep, 100)
    assert at_once.cancel()
    running = bgtasks.fire(tasks.sleep, 100)
    await next_turn()
    assert running.cancel()
    for handle in (at_once, running):
        with pytest.raises(bgtasks.TaskCancelled):
            await handle
        row = await read_row(handle)
        assert row.status == "CANCELLED"
        assert row.error_type == ""
        assert not handle.cancel()


async def test_cancel_from_another_thread(runtime: Runtime) -> None:
    handle = bgtasks.fire(tasks.sleep, 100)
    await next_turn()
    assert await asyncio.to_thread(handle.cancel)
    with pytest.raises(bgtasks.TaskCancelled):
        await handle.wait(timeout=10)


async def test_a_task_may_finish_though_it_was_asked_to_stop(runtime: Runtime) -> None:
    @bgtasks.task(name="finishes_anyway")
    async def finish_anyway() -> str:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            assert bgtasks.current().cancel_requested
        return "done"

    handle = bgtasks.fire(finish_anyway)
    await next_turn()
    handle.cancel()
    assert await handle == "done"


async def test_a_cancellation_from_outside_is_an_interruption(runtime: Runtime) -> None:
    """As at the end of a loop: neither bgtasks nor the task itself caused the CancelledError."""
    handle = bgtasks.fire(tasks.sleep, 100)
    await next_turn()
    [task] = [found for found in asyncio.all_tasks() if "tests.app.tasks.sleep" in found.get_name()]
    task.cancel()
    with pytest.raises(bgtasks.TaskInterrupted):
        await handle


async def test_live_tasks(runtime: Runtime) -> None:
    handles = [bgtasks.fire(tasks.sleep, 0.1) for _ in range(3)]
    assert {handle.id for handle in bgtasks.live_tasks()} == {handle.id for handle in handles}
    assert bgtasks.pending_task_count() == 3
    await asyncio.gather(*handles)
    assert bgtasks.live_tasks() == []
    assert bgtasks.pending_task_count() == 0


async def test_admin_url(runtime: Runtime) -> None:
    handle = bgtasks.fire(tasks.succeed)
    assert handle.get_admin_url() == f"/admin/bgtasks/backgroundtask/{handle.id}/change/"
    await handle


async def test_from_threads(runtime: Runtime) -> None:
    """A task fired from a thread runs on the home loop too."""

    def fire_some() -> list[bgtasks.TaskHandle[Any]]:
        return [bgtasks.fire(tasks.succeed, number) for number in range(50)]

    batches = await asyncio.gather(*[asyncio.to_thread(fire_some) for _ in range(4)])
    for batch in batches:
        assert await asyncio.gather(*batch) == list(range(50))
    await wait_until(lambda: _all_done(200))


async def _all_done(count: int) -> bool:
    return await BackgroundTask.objects.filter(status="SUCCESSFUL").acount() == count


async def test_every_history_follows_the_table(runtime: Runtime) -> None:
    handles = [
        bgtasks.fire(tasks.succeed),
        bgtasks.fire(tasks.fail),
        bgtasks.fire(tasks.sleep, 100),
        bgtasks.fire(tasks.use_orm_in_thread, 1),
    ]
    await next_turn()
    handles[2].cancel()
    for handle in handles:
        row = await read_row(handle)
        statuses = [None, *[Status(entry["status"]) for entry in row.transitions]]
        assert all(may_follow(one, other) for one, other in itertools.pairwise(statuses))
        assert row.status == statuses[-1]


def test_before_the_app_registry_is_ready() -> None:
    """`import bgtasks` and the decorator need no Django set-up. Firing raises AppRegistryNotReady."""
    import subprocess
    import sys

    code = (
        "import bgtasks\n"
        "@bgtasks.task\n"
        "async def f(): pass\n"
        "try: bgtasks.fire(f)\n"
        "except Exception as e: print(type(e).__name__, e)\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.startswith("AppRegistryNotReady"), answer.stderr
