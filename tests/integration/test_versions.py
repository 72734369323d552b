"""Rows of other code than that of the claiming process: older, newer, or under a former name."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.apps import apps
from django.contrib.auth.models import User
from django.utils import timezone

import bgtasks
from bgtasks.definition import declared
from bgtasks.journal import spool
from bgtasks.models import BackgroundTask
from bgtasks.operations.fire_again import fire_again
from tests.app import tasks
from tests.conftest import Runtime, read_row, wait_until
from tests.waiting import astays


class Fired:
    """Stands for the handle of a row that another process has written."""

    def __init__(self, row: BackgroundTask) -> None:
        self.id = row.pk


async def write_row(name: str, *args: Any, **more: Any) -> Fired:
    values = {"name": name, "args": list(args), "created_at": timezone.now(), "transitions": []}
    return Fired(await BackgroundTask.objects.acreate(**(values | more)))


# Aliases.


async def test_a_row_under_an_old_name_is_run_by_the_new_function(runtime: Runtime) -> None:
    @bgtasks.task(name="shop.send", aliases=["shop.old_send"])
    async def send(number: int) -> int:
        return number * 2

    found = await read_row(await write_row("shop.old_send", 21))
    new = await read_row(bgtasks.fire(send, 1))

    assert (found.status, found.result, found.name) == ("SUCCESSFUL", 42, "shop.old_send")
    assert new.name == "shop.send"


@pytest.mark.django_db
def test_the_admin_offers_a_function_once_and_finds_all_its_rows(client: Any) -> None:
    @bgtasks.task(name="shop.send", aliases=["shop.old_send"])
    async def send(number: int) -> int:
        return number

    for name in ("shop.send", "shop.old_send", "shop.other"):
        BackgroundTask.objects.create(name=name, args=[5], created_at=timezone.now())
    client.force_login(User.objects.create(username="root", is_staff=True, is_superuser=True))

    body = client.get("/admin/bgtasks/backgroundtask/", {"name": "shop.send"}).content.decode().replace("<wbr>", "")
    old = client.get("/admin/bgtasks/backgroundtask/", {"name": "shop.old_send"}).content.decode()
    row = BackgroundTask.objects.get(name="shop.old_send")
    page = client.get(f"/admin/bgtasks/backgroundtask/{row.pk}/change/").content.decode()

    assert body.count("shop.send</option>") == 1
    assert "shop.old_send</option>" not in body
    assert body.count('class="bgtasks-name"') == 2
    assert old.count('class="bgtasks-name"') == 1
    assert "number" in page  # The parameter, under the old name too.


# Fingerprints.


async def test_a_row_has_the_signature_and_the_release(settings: Any, runtime: Runtime) -> None:
    await runtime.stop()
    settings.BGTASKS = {**settings.BGTASKS, "RELEASE": "2026.1"}
    await runtime.start()

    @bgtasks.task(name="shop.third", version=3)
    async def third(number: int) -> None: ...

    plain = await read_row(bgtasks.fire(tasks.succeed, 1))
    keyed = await read_row(bgtasks.fire(third.using(key="k"), 1))
    function = await read_row(bgtasks.fire(third.func, 1))

    assert (plain.signature_fingerprint, plain.release) == (tasks.succeed.signature_fingerprint, "2026.1")
    assert keyed.signature_fingerprint == third.signature_fingerprint
    assert keyed.signature_fingerprint.startswith("3:")
    assert function.signature_fingerprint == ""


async def test_a_misfit_is_described_in_the_row(runtime: Runtime) -> None:
    @bgtasks.task(name="shop.send", version=1)
    async def send(user_id: int, *, subject: str) -> None: ...

    old = {"kwargs": {"user_id": 5, "title": "t"}, "signature_fingerprint": "1:0123456789abcd", "release": "2025.9"}

    found = await read_row(await write_row("shop.send", **old))

    assert found.status == "FAILED"
    for words in (
        "Missing: subject. Unexpected: title.",
        "fired with version 1 (signature 1:0123456789abcd) by release 2025.9",
        f"has version 1 (signature {send.signature_fingerprint})",
    ):
        assert words in found.error_message
        assert words in found.transitions[-1]["why"]


async def test_a_spooled_record_keeps_its_fingerprint(runtime: Runtime) -> None:
    """The process that reads it may have newer code, or not know the function."""
    runner = apps.get_app_config("bgtasks").runtime
    record = bgtasks.fire(tasks.succeed, 1)._record
    line = spool.encode(record, runner.state.id, "2026.1")

    known = spool.decode(line, {"tests.app.tasks.succeed": bgtasks.task(name="newer", version=9)(tasks.fail.func)})
    unknown = spool.decode(line, {})

    for _, _, found in (known, unknown):
        assert found.task is not None
        assert found.task.signature_fingerprint == tasks.succeed.signature_fingerprint


# Steps.


def declare_third(name: str) -> Any:
    @bgtasks.task(name=name, version=3, max_attempts=2, backoff_first=0.01)
    async def third(user_id: int, *, subject: str, is_polite: bool = True) -> Any:
        if bgtasks.current().attempt == 1:
            raise ValueError("again")
        return [user_id, subject, is_polite]

    return third


async def test_an_older_row_takes_all_steps_at_each_claim(runtime: Runtime) -> None:
    third = declare_third("shop.third")

    @third.migrate(from_version=1)
    def first_step(args: list[Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        return args[:1], {"title": args[1]}

    @third.migrate(from_version=2)
    def second_step(args: list[Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        return args, {"subject": kwargs.pop("title"), "is_polite": False}

    more = {"max_attempts": 2}
    oldest = await write_row("shop.third", 5, "Hello", signature_fingerprint="1:0123456789abcd", **more)
    older = await write_row("shop.third", 6, kwargs={"title": "Bye"}, signature_fingerprint="2:0123456789abcd", **more)
    newest = bgtasks.fire(third, 7, subject="New")

    for fired, result in ((oldest, [5, "Hello", False]), (older, [6, "Bye", False]), (newest, [7, "New", True])):
        found = await read_row(fired)
        assert (found.status, found.result, found.attempt) == ("SUCCESSFUL", result, 2)
    row = await BackgroundTask.objects.aget(pk=oldest.id)
    assert (row.args, row.signature_fingerprint) == ([5, "Hello"], "1:0123456789abcd")  # As it was fired.


@pytest.mark.parametrize("kind", ["missing", "raises", "returns"])
async def test_steps_that_lead_nowhere_fail_the_row(kind: str, runtime: Runtime) -> None:
    third = declare_third("shop.third")

    def step(args: list[Any], kwargs: dict[str, Any]) -> Any:
        return args if kind == "returns" else (args[5], kwargs)

    if kind != "missing":
        third.migrate(from_version=1)(step)

    found = await read_row(await write_row("shop.third", 5, signature_fingerprint="1:0123456789abcd"))

    reason = {"missing": "is declared", "raises": "raised IndexError", "returns": "returned a list"}[kind]
    assert found.status == "FAILED"
    assert reason in found.error_message
    assert found.transitions[-1]["why"].startswith("its arguments cannot be used: its arguments are of version 1")
    assert await bgtasks.fire(tasks.succeed, "others go on") == "others go on"


async def test_fired_again_it_is_of_its_old_version_still(runtime: Runtime) -> None:
    first = await write_row("shop.third", 5, signature_fingerprint="1:0123456789abcd", status="FAILED")

    outcome = await sync_to_async(fire_again)("default", [first.id], "test", "test")

    assert outcome.fired[first.id].signature_fingerprint == "1:0123456789abcd"


# Newer code elsewhere.


async def test_a_newer_row_is_left_to_newer_code(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    """As during a deploy: the process leaves the row unchanged, and logs that once."""

    @bgtasks.task(name="shop.send", version=2)
    async def send(user_id: int) -> int:
        return user_id

    newer = [await write_row("shop.send", 1, 2, signature_fingerprint="3:0123456789abcd") for _ in range(3)]
    newer += [await write_row("shop.send", 1, 2, signature_fingerprint="4:0123456789abcd")]
    own = await write_row("shop.send", 5, signature_fingerprint=send.signature_fingerprint)
    with caplog.at_level(logging.WARNING, "bgtasks"):
        assert (await read_row(own)).result == 5
        newer += [await write_row("shop.send", 1, 2, signature_fingerprint="4:0123456789abcd")]
        assert (await read_row(await write_row("tests.app.tasks.succeed", 6))).result == 6

        def find_lines() -> list[str]:
            return [record.getMessage() for record in caplog.records if "newer code" in record.getMessage()]

        await astays(lambda: len(find_lines()) == 1, 0.3, why="six times POLL_INTERVAL: it is claimed for again")

    for fired in newer:
        row = await BackgroundTask.objects.aget(pk=fired.id)
        assert (row.status, row.attempt, row.process, row.origin, row.transitions) == ("READY", 0, None, None, [])
        assert row.started_at is None
    [line] = find_lines()
    assert line.startswith("Task shop.send: this process has its version 2 and leaves rows of version ")


async def test_newer_rows_do_not_keep_others_from_their_slots(settings: Any, transactional_db: None) -> None:
    """There are more of them than slots, and all are older than the others."""
    settings.BGTASKS = {**settings.BGTASKS, "MAX_RUNNING": 2}
    now = timezone.now() - timedelta(hours=1)
    for _ in range(5):
        await write_row("tests.app.tasks.succeed", signature_fingerprint="7:0123456789abcd", created_at=now, priority=9)
    own = [await write_row("tests.app.tasks.succeed", number) for number in range(5)]
    runtime = Runtime()
    await runtime.start()

    assert [(await read_row(fired)).result for fired in own] == list(range(5))
    runner = apps.get_app_config("bgtasks").runtime
    await wait_until(lambda: not runner.backlog.has_rows)
    assert len(runner.slots) == 2
    await runtime.stop()


async def test_the_newer_code_runs_what_was_left(runtime: Runtime) -> None:
    @bgtasks.task(name="shop.send")
    async def send(user_id: int) -> int:
        return user_id

    left = await write_row("shop.send", 1, 2, signature_fingerprint="2:0123456789abcd")
    assert await bgtasks.fire(send, 5) == 5
    is_left = BackgroundTask.objects.filter(pk=left.id, status="READY").aexists
    await astays(is_left, 0.2, why="four times POLL_INTERVAL, the time between two claims")
    await runtime.stop()

    @bgtasks.task(name="shop.newer", version=2)
    async def newer(user_id: int, factor: int) -> int:
        return user_id * factor

    declared["shop.send"] = newer
    await runtime.start()

    assert (await read_row(left)).result == 2
