"""Sensitive arguments: only the task gets them; rows, logs and reports do not contain them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.apps import apps
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection, transaction
from django.utils import timezone

import bgtasks
from bgtasks.definition import Task
from bgtasks.definition.sensitive import HIDDEN, MARK, is_sealed, seal
from bgtasks.journal import spool
from bgtasks.models import BackgroundTask
from bgtasks.operations.fire_again import fire_again
from bgtasks.status import Status
from tests.app import tasks
from tests.conftest import Runtime, read_row, wait_until

SECRET = "hunter2-hunter2"


class Login:
    """A task function with a sensitive parameter, its calls, and the exception that it raises."""

    def __init__(self, **options: Any) -> None:
        self.calls: list[Any] = []
        self.errors: list[BaseException] = []

        @bgtasks.task(name="shop.login", sensitive=("token",), **options)
        async def login(user_id: int, token: Any) -> int:
            self.calls.append(token)
            if self.errors:
                raise self.errors.pop()
            return user_id

        self.task: Task[..., Any] = login


@pytest.fixture
def clean_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Assert that no log line of the test contains the secret."""
    caplog.set_level(logging.DEBUG)
    yield
    for phase in ("setup", "call"):
        for record in caplog.get_records(phase):
            assert SECRET not in caplog.handler.format(record), record


pytestmark = pytest.mark.usefixtures("clean_log")


@sync_to_async
def read_everything() -> str:
    """Return the whole table as text, as SQL returns it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM bgtasks_backgroundtask")
        return json.dumps(cursor.fetchall(), default=str)


async def test_it_runs_at_once_with_the_value(runtime: Runtime) -> None:
    login = Login()

    handles = [bgtasks.fire(login.task, 1, SECRET), await bgtasks.afire(login.task, 2, token={"nested": [SECRET]})]

    assert [await handle for handle in handles] == [1, 2]
    rows = [await read_row(handle) for handle in handles]
    assert login.calls == [SECRET, {"nested": [SECRET]}]
    assert rows[0].args[0] == 1
    assert is_sealed(rows[0].args[1])
    assert is_sealed(rows[1].kwargs["token"])
    table = await read_everything()
    assert MARK in table
    assert SECRET not in table


async def test_it_runs_from_the_table_with_the_value(settings: Any, runtime: Runtime) -> None:
    """Tasks that wait for a slot, for their moment, for a commit, and one with a key."""
    await runtime.stop()
    settings.BGTASKS = {**settings.BGTASKS, "MAX_RUNNING": 1}
    await runtime.start()
    login, may_end = Login(), asyncio.Event()
    busy = bgtasks.fire(may_end.wait(), name="busy")
    waiting = bgtasks.fire(login.task, 1, SECRET)
    keyed = bgtasks.fire(login.task.using(key="k"), 2, SECRET)

    @sync_to_async
    def fire_in_transaction() -> Any:
        with transaction.atomic():
            return bgtasks.fire(login.task, 3, SECRET)

    async def all_wait() -> bool:
        return await BackgroundTask.objects.filter(status="READY").acount() == 3

    outbox = await fire_in_transaction()
    await wait_until(all_wait)
    assert SECRET not in await read_everything()
    may_end.set()
    await busy

    assert [await handle for handle in (waiting, keyed, outbox)] == [1, 2, 3]
    assert login.calls == [SECRET] * 3
    assert SECRET not in await read_everything()


async def test_exceptions_are_reported_without_the_value(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    login = Login(max_attempts=3, backoff_first=0.01)
    login.errors = [ValueError(f"bad {SECRET}"), KeyError(SECRET), bgtasks.Retry(after=0.01)]
    login.errors[2].__cause__ = OSError(f"https://x/?token={SECRET}")

    handle = bgtasks.fire(login.task, 5, SECRET)
    with pytest.raises(bgtasks.TaskFailed, match=r"ValueError: bad \[sensitive\]") as caught:
        await handle

    row = await read_row(handle)
    assert login.calls == [SECRET] * 3
    assert (row.error_type, row.error_message) == ("ValueError", f"bad {HIDDEN}")
    assert f"ValueError: bad {HIDDEN}" in row.traceback
    assert "in login" in row.traceback
    whys = [entry["why"] for entry in row.transitions]
    assert sum(HIDDEN in why for why in whys) == 3
    assert SECRET not in await read_everything()
    # An error report includes the cause and the local variables of its frames.
    assert caught.value.__cause__ is None
    records = [record for record in caplog.records if "failed in attempt" in record.getMessage()]
    assert len(records) == 3
    assert all(record.exc_info is None for record in records)
    assert "in login" in records[-1].getMessage()


async def test_code_of_the_project_beside_it_is_logged_without_the_value(runtime: Runtime) -> None:
    def back_off(attempt: int, error: BaseException) -> float:
        raise RuntimeError(f"no idea: {error}")

    login = Login(max_attempts=2, backoff=back_off)
    login.errors = [ValueError(SECRET)]

    row = await read_row(bgtasks.fire(login.task, 5, SECRET))

    assert row.status == "FAILED"
    assert SECRET not in await read_everything()


async def test_others_are_reported_in_full(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    handle = bgtasks.fire(tasks.fail, "plain words")

    with pytest.raises(bgtasks.TaskFailed) as caught:
        await handle

    assert isinstance(caught.value.__cause__, ValueError)
    assert (await read_row(handle)).error_message == "plain words"
    assert [record.exc_info is not None for record in caplog.records if "failed in attempt" in record.getMessage()]


# Keys.


def seal_for(task: Task[..., Any]) -> dict[str, Any]:
    args, kwargs = seal(task.sensitive, task.signature, [5], {"token": SECRET})
    return {"args": args, "kwargs": kwargs}


async def write_row(**values: Any) -> Any:
    row = await BackgroundTask.objects.acreate(
        **({"name": "shop.login", "created_at": timezone.now(), "transitions": []} | values)
    )
    return type("Fired", (), {"id": row.pk})


async def test_rows_of_an_old_key_are_read(settings: Any, runtime: Runtime) -> None:
    login = Login()
    sealed = seal_for(login.task)
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "a new one", [settings.SECRET_KEY]

    assert (await read_row(await write_row(**sealed))).status == "SUCCESSFUL"
    assert login.calls == [SECRET]


async def test_rows_of_a_key_that_is_gone_fail(settings: Any, runtime: Runtime) -> None:
    login = Login(max_attempts=3)
    sealed = seal_for(login.task)
    settings.SECRET_KEY = "a new one"

    row = await read_row(await write_row(**sealed, max_attempts=3))

    assert (row.status, login.calls) == ("FAILED", [])
    assert "'token' cannot be decrypted" in row.error_message
    assert "SECRET_KEY_FALLBACKS" in row.error_message
    assert sealed["kwargs"]["token"][MARK] not in row.error_message + str(row.transitions)
    assert await bgtasks.fire(tasks.succeed, "others go on") == "others go on"


async def test_fired_again_it_has_the_value(runtime: Runtime) -> None:
    login = Login()
    login.errors = [ValueError("once")]
    first = bgtasks.fire(login.task, 5, SECRET)
    await read_row(first)

    outcome = await sync_to_async(fire_again)("default", [first.id], "test", "test")

    again = outcome.fired[first.id]
    assert is_sealed(again.args[1])
    assert (await read_row(type("Fired", (), {"id": again.pk}))).status == "SUCCESSFUL"
    assert login.calls == [SECRET] * 2


# Versions.


async def test_a_step_gets_the_value_and_does_not_reveal_it(runtime: Runtime) -> None:
    login = Login(version=2)
    got: list[Any] = []

    @login.task.migrate(from_version=1)
    def step(args: list[Any], kwargs: dict[str, Any]) -> Any:
        got.append(kwargs["token"])
        if args[0] == 6:
            raise ValueError(f"no {kwargs['token']}")
        return [args[0], kwargs["token"]], {}

    old = {**seal_for(login.task), "signature_fingerprint": "1:0123456789abcd"}
    good = await write_row(**old)
    assert (await read_row(good)).status == "SUCCESSFUL"
    bad = await write_row(**(old | {"args": [6]}))

    row = await read_row(bad)
    assert (row.status, login.calls, got) == ("FAILED", [SECRET], [SECRET] * 2)
    assert f"raised ValueError: no {HIDDEN}" in row.error_message
    assert SECRET not in await read_everything()


# Files, the admin and the commands.


async def test_the_spool_has_it_encrypted(runtime: Runtime) -> None:
    login = Login()
    runner = apps.get_app_config("bgtasks").runtime
    record = runner.firing.make(login.task, (5, SECRET), {})
    record.forget_coroutine()

    line = spool.encode(record, runner.state.id, "")

    assert SECRET not in line
    _, _, found = spool.decode(line, {"shop.login": login.task})
    assert is_sealed(json.loads(found.encode_arguments()[0])[1])


async def test_a_claimed_one_is_spooled_without_it(runtime: Runtime) -> None:
    started = asyncio.Event()

    @bgtasks.task(name="shop.login", sensitive=("token",))
    async def wait(user_id: int, token: str) -> None:
        started.set()
        await asyncio.Event().wait()

    await write_row(**seal_for(wait))
    await started.wait()
    runner = apps.get_app_config("bgtasks").runtime
    [record] = runner.registry.live.values()

    assert record.kwargs == {"token": SECRET}
    assert SECRET not in spool.encode(record, runner.state.id, "")
    [live] = bgtasks.live_tasks()
    live.cancel()


@pytest.mark.django_db
def test_the_admin_and_the_commands_show_nothing_of_it(client: Any) -> None:
    login = Login()
    values = {"name": "shop.login", "created_at": timezone.now(), **seal_for(login.task)}
    row = BackgroundTask.objects.create(**values, status=Status.FAILED, finished_at=timezone.now())
    many = BackgroundTask.objects.create(**(values | {"args": [5] * 60}))
    client.force_login(User.objects.create(username="root", is_staff=True, is_superuser=True))

    tasks = "/admin/bgtasks/backgroundtask/"
    pages = [client.get(f"{tasks}{each.pk}/change/").content.decode() for each in (row, many)]
    pages.append(client.get(tasks).content.decode())
    found = client.get(tasks, {"q": SECRET}).content.decode()
    output = StringIO()
    for command in ("stuck_tasks", "audit_tasks"):
        with contextlib.suppress(SystemExit):
            call_command(command, format="json", stdout=output)

    for page in (*pages, output.getvalue()):
        assert SECRET not in page
        assert values["kwargs"]["token"][MARK] not in page
    assert all(HIDDEN in page for page in pages[:2])
    assert str(row.pk) not in found
