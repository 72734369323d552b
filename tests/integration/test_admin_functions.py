"""The pages of task functions: their content, the permissions to fire and pause, and the fired tasks."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from urllib.parse import quote
from uuid import UUID

import pytest
from asgiref.sync import sync_to_async
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.contrib.messages import get_messages
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

import bgtasks
from bgtasks.admin.shared import cache
from bgtasks.journal.tally import OTHERS
from bgtasks.models import BackgroundTask, Pause, Rollup, histogram
from bgtasks.status import FINISHED, Status
from bgtasks.testing import fired
from bgtasks.uuid7 import uuid7
from tests.app import tasks
from tests.conftest import Runtime, wait_until
from tests.staff import log_in

LIST = "/admin/bgtasks/taskfunction/"
PAGE = f"{LIST}function/"
TASKS = "/admin/bgtasks/backgroundtask/"
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7|add:7 }}{% now %} javascript:alert(3)"


@pytest.fixture
def client(db: None) -> Client:
    return log_in("fire_task", "add_pause", "delete_pause")


def address(name: str) -> str:
    return f"{PAGE}?name={quote(name)}"


def show(client: Client, name: str | None = None) -> str:
    response = client.get(LIST if name is None else address(name))
    assert response.status_code == 200, response.status_code
    return response.content.decode().replace("<wbr>", "")


def card_of(body: str, function: str) -> str:
    found = re.findall(r'<article class="bgtasks-card bgtasks-function">.*?</article>', body, re.DOTALL)
    cards = [card for card in found if f">{function}</a>" in card]
    if len(cards) > 1:  # Other test modules declare functions of that name too.
        cards = [card for card in cards if "tests.app.tasks" in card]
    [card] = cards
    return card


def fire(client: Client, name: str, **typed: str) -> Any:
    return client.post(address(name), {f"argument-{field}": value for field, value in typed.items()})


def said(client: Client) -> list[str]:
    return [str(message) for message in get_messages(client.get(LIST).wsgi_request)]


def make_task(name: str, status: Status = Status.SUCCESSFUL, **more: Any) -> BackgroundTask:
    now = timezone.now()
    ends = {"started_at": now, "finished_at": now, "attempt": 1} if status in FINISHED else {}
    return BackgroundTask.objects.create(name=name, status=status, **({"created_at": now} | ends | more))


def make_rollup(name: str, seconds: float = 1.0, failed: BackgroundTask | None = None, **statuses: int) -> None:
    took = {str(histogram.bin_of(seconds)): sum(statuses.values())}
    for resolution in Rollup.Resolution:
        now = datetime.now(UTC)
        starts_at = now - timedelta(seconds=now.timestamp() % resolution)
        counts: dict[str, Any] = {"statuses": statuses, "took": took, "waited": took}
        if failed is not None:
            counts["failed"] = str(failed.pk)
        Rollup.objects.create(process=uuid7(), resolution=resolution, starts_at=starts_at, tasks={name: counts})


# Content.


def test_all_functions_are_shown_with_what_became_of_them(client):
    @bgtasks.task(name="shop.tasks.charge", timeout=30, on_lost="rerun", aliases=["shop.old.charge"])
    async def charge(order_id: int) -> None:
        """Charge an order.

        More of it.
        """

    make_rollup("shop.tasks.charge", SUCCESSFUL=95, FAILED=3)
    row = make_task("shop.old.charge", Status.FAILED, error_type="shop.errors.Declined")
    make_rollup("shop.old.charge", 20.0, row, SUCCESSFUL=1, LOST=1)
    make_rollup(OTHERS, SUCCESSFUL=5)
    make_rollup("notify:ann", SUCCESSFUL=2)
    make_task("shop.tasks.charge")

    body = show(client)

    card = card_of(body, "charge")
    for shown in ("Charge an order.", "timeout=30", "runs again when its process dies, up to 3 attempts"):
        assert shown in card
    for number, label in (("100", "ended"), ("96", "ok"), ("4", "failed")):
        assert f"<b>{number}</b> {label}" in card
    assert "of 100 tasks" in card
    assert "timeout <b>30 s</b>" in card
    assert f"{TASKS}{row.pk}/change/" in card
    assert "<code>Declined</code>" in card
    assert "More of it." not in card
    assert "not declared" not in card
    assert body.count(">charge</a>") == 1
    assert "not declared in this process" in card_of(body, "notify:ann")
    assert f">{OTHERS}</a>" not in body


def test_the_newest_failure_is_the_last(client):
    """The order in which processes report them does not matter."""
    name = "tests.app.tasks.fail"
    old, new, other = (make_task(name, status) for status in (Status.LOST, Status.FAILED, Status.INTERRUPTED))
    make_rollup(name, failed=new, FAILED=1)
    make_rollup(name, failed=old, LOST=1)
    make_rollup("tests.app.tasks.succeed", failed=other, INTERRUPTED=1)

    card = card_of(show(client), "fail")

    assert str(new.pk) in card
    assert str(old.pk) not in card
    assert "last failure in 7 days" in card


def test_a_last_failure_that_was_deleted_is_not_shown(client):
    name = "tests.app.tasks.fail"
    row = make_task(name, Status.FAILED)
    make_rollup(name, failed=row, FAILED=1)
    BackgroundTask.objects.get(pk=row.pk).delete()

    for body in (show(client), show(client, name)):
        assert str(row.pk) not in body
        assert "last failure" not in body


async def test_a_failure_is_the_last_however_many_others_failed_since(runtime: Runtime) -> None:
    rare = bgtasks.fire(tasks.fail)
    with pytest.raises(bgtasks.TaskFailed):
        await rare.wait(timeout=20)

    @sync_to_async
    def read() -> str:
        """Add newer failures of another function, as many as the page reads at most."""
        now = timezone.now()
        BackgroundTask.objects.bulk_create(
            BackgroundTask(name="tests.app.tasks.succeed", status=Status.FAILED, created_at=now, finished_at=now)
            for _ in range(1000)
        )
        client = log_in()
        cache.forget_all()
        return card_of(show(client), "fail")

    async def is_counted() -> bool:
        rows = Rollup.objects.filter(resolution=Rollup.Resolution.TWO_HOURS)
        return any([rare.name in row.tasks async for row in rows])

    await wait_until(is_counted)
    assert f"{TASKS}{rare.id}/change/" in await read()


def test_the_pages_ask_as_much_of_many_rows_as_of_one(client):
    def count(name: str | None) -> int:
        cache.forget_all()
        with CaptureQueriesContext(connection) as queries:
            show(client, name)
        return len(queries)

    name = "tests.app.tasks.fail"
    make_rollup(name, failed=make_task(name, Status.FAILED), FAILED=1)
    show(client)
    few = count(None), count(name)
    for number in range(60):
        make_rollup(name, failed=make_task(name, Status.FAILED), FAILED=1)
        unknown = f"unknown.{number}"
        make_rollup(unknown, failed=make_task(unknown, Status.LOST), LOST=1)

    assert (count(None), count(name)) == few
    assert few[0] <= 8
    assert few[1] <= 11


def test_the_page_of_a_function(client):
    @bgtasks.task(name="shop.tasks.charge", aliases=["shop.old.charge"], version=2, retry_on=(OSError,), max_attempts=4)
    async def charge(order_id: int, note: str = "none") -> None:
        """Charge an order.

        More of it.
        """

    make_rollup("shop.tasks.charge", SUCCESSFUL=95, FAILED=3)
    old, new = make_task("shop.old.charge", Status.FAILED), make_task("shop.tasks.charge")

    body = show(client, "shop.tasks.charge")

    for shown in (
        "More of it.",
        "(order_id: int, note: str = none)".replace("none", "&#x27;none&#x27;"),
        "shop.old.charge",
    ):
        assert shown in body
    assert "test_admin_functions.py:" in body
    assert "retry_on=OSError" in body
    assert "version=2" in body
    strip = body.partition('<svg class="bgtasks-strip"')[2].partition("</svg>")[0]
    assert re.findall(r"/([0-9a-f-]{36})/change/", strip) == [str(old.pk), str(new.pk)]
    windows = body.partition("failed, interrupted or lost")[2].partition("</tr>")[0]
    assert re.findall(r">(\d+)<", windows) == ["3"] * 5
    assert "name=shop.tasks.charge&amp;show=failed&amp;fired=hour" in windows
    assert show(client, "shop.old.charge").count('name="argument-order_id"') == 1


def test_a_function_that_is_not_declared_has_a_page_without_a_form(client):
    row = make_task("old.service.send", Status.LOST)

    body = show(client, "old.service.send")

    assert "not declared in this process" in body
    assert str(row.pk) in body
    assert "Fire now" not in body
    assert 'action="/admin/bgtasks/taskfunction/function/pause/"' not in body
    assert fire(client, "old.service.send").status_code == 404


@pytest.mark.parametrize("name", ["", "nobody", "x" * 300, "a\x00b", HOSTILE[:150]])
def test_names_of_nothing_are_not_found(client, name):
    assert client.get(PAGE, {"name": name}).status_code == 404
    assert client.post(f"{PAGE}pause/", {"name": name}).status_code == 404


def test_there_are_no_pages_of_rows(client):
    row = make_task("tests.app.tasks.fail", args=["secret"])

    assert client.get(f"{LIST}{row.pk}/change/").status_code == 404
    assert client.get(f"{LIST}add/").status_code == 404


def test_everything_is_escaped(client):
    def odd(text: str = HOSTILE, it: object = {HOSTILE}, choice: Literal[HOSTILE] = HOSTILE):  # type: ignore[valid-type]
        pass

    odd.__doc__ = f"{HOSTILE}\n\n{HOSTILE}"
    name = HOSTILE[:100]
    bgtasks.task(name=name, queue=HOSTILE[:90])(odd)
    make_rollup(name, failed=make_task(name, Status.FAILED, error_type=f"x.{HOSTILE}"), FAILED=1)
    make_rollup(f"{name} unknown", FAILED=1)
    Pause.objects.create(kind="function", name=name)

    pages = [show(client), show(client, name)]
    pages.append(fire(client, name, it="[", text=HOSTILE).content.decode().replace("<wbr>", ""))

    for body in pages:
        assert "<script>alert" not in body
        assert "<img src=x" not in body
        assert "&lt;script&gt;" in body
        assert not re.search(r'(href|src|action)="\s*javascript:', body)
        content = body.split('<div id="content-main"')[1].split("<!-- END Content -->")[0]
        assert "<script" not in content
        assert " style=" not in content


# Permissions.


def test_the_permission_to_look_is_what_it_takes(db):
    nobody = log_in(name="nobody")
    User.objects.get().user_permissions.clear()

    assert nobody.get(LIST).status_code == 403
    assert nobody.get(address("tests.app.tasks.fail")).status_code == 403
    assert "/login/" in Client().get(LIST)["Location"]
    assert "/login/" in fire(Client(), "tests.app.tasks.fail")["Location"]


def test_without_the_permissions_nothing_is_offered_and_nothing_is_done(db):
    name = "tests.app.tasks.fail"
    viewer = log_in(name="viewer")
    Pause.objects.create(kind="function", name="tests.app.tasks.succeed")

    body = show(viewer, name) + show(viewer, "tests.app.tasks.succeed")

    assert "<form" not in body.split('<div id="content-main"')[1].split("<!-- END Content -->")[0]
    assert fire(viewer, name).status_code == 403
    assert viewer.post(f"{PAGE}pause/", {"name": name}).status_code == 403
    assert viewer.post(f"{PAGE}resume/", {"name": "tests.app.tasks.succeed"}).status_code == 403
    assert list(fired) == []
    assert [pause.name for pause in Pause.objects.all()] == ["tests.app.tasks.succeed"]
    assert not LogEntry.objects.exists()


def test_the_permission_to_fire_without_that_to_look_is_not_enough(db):
    client = log_in("fire_task")
    User.objects.get().user_permissions.remove(Permission.objects.get(codename="view_backgroundtask"))

    assert fire(client, "tests.app.tasks.fail").status_code == 403


def test_only_a_post_with_the_token_acts(client):
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.get())

    assert fire(strict, "tests.app.tasks.succeed").status_code == 403
    assert strict.post(f"{PAGE}pause/", {"name": "tests.app.tasks.succeed"}).status_code == 403
    assert client.get(f"{PAGE}pause/", {"name": "tests.app.tasks.succeed"}).status_code == 404
    assert client.put(address("tests.app.tasks.succeed")).status_code == 405
    assert list(fired) == []
    assert not Pause.objects.exists()


# Pausing.


def test_a_function_is_paused_and_goes_on(client):
    name = "tests.app.tasks.succeed"

    answer = client.post(f"{PAGE}pause/", {"name": name})

    assert answer["Location"] == address(name)
    pause = Pause.objects.get()
    assert (pause.kind, pause.name, pause.paused_by) == ("function", name, "ann")
    assert said(client) == [f"Paused {name}: running tasks go on, waiting and new tasks wait until it is resumed."]
    for body in (card_of(show(client), "succeed"), show(client, name)):
        assert ">paused</span>" in body
    assert f'<input type="hidden" name="name" value="{name}">' in show(client, name)

    client.post(f"{PAGE}pause/", {"name": name})
    answer = client.post(f"{PAGE}resume/", {"name": name})

    assert answer["Location"] == address(name)
    assert not Pause.objects.exists()
    assert ">paused</span>" not in show(client, name)
    assert [entry.action_flag for entry in LogEntry.objects.order_by("pk")] == [1, 3]


def test_a_paused_queue_is_shown_on_the_page_of_its_functions(client):
    Pause.objects.create(kind="queue", name="default")

    assert "queue default paused" in show(client, "tests.app.tasks.succeed")


# Firing. Tests capture tasks, unless the runtime is live.


def test_it_is_fired_with_what_was_typed_in(client):
    answer = fire(client, "tests.app.tasks.fail", message="typed")

    assert answer.status_code == 302
    [task] = fired
    assert (task.name, task.args, task.kwargs) == ("tests.app.tasks.fail", ("typed",), {})
    assert answer["Location"] == address("tests.app.tasks.fail")
    assert said(client) == [
        f"Fired tests.app.tasks.fail as {task.handle.id}. It is being recorded: look for it in a moment."
    ]
    [entry] = LogEntry.objects.all()
    assert (entry.object_id, entry.change_message) == (str(task.handle.id), "Fired in the admin.")
    assert entry.user.username == "ann"
    assert "typed" not in f"{entry.object_repr} {entry.change_message}"


def test_bad_input_names_the_parameter_and_fires_nothing(client):
    body = fire(client, "tests.app.tasks.sleep", seconds="soon").content.decode()

    assert "<code>seconds</code>: Enter a number." in body
    assert 'value="soon"' in body
    assert list(fired) == []
    assert not LogEntry.objects.exists()


def test_values_that_cannot_be_fired_are_reported_by_the_form(client):
    @bgtasks.task(name="takes_any")
    async def takes_any(value: Any, **more: Any) -> None: ...

    for typed, error in (({"value": "NaN"}, "NaN"), ({"value": "1", "more": '{"value": 2}'}, "value")):
        answer = fire(client, "takes_any", **typed)
        assert answer.status_code == 200
        alert = answer.content.decode().partition('role="alert">')[2].partition("</div>")[0]
        assert "Not fired." in alert
        assert error in alert
    assert list(fired) == []


def test_arguments_that_are_too_large_are_reported_by_the_form(client):
    body = fire(client, "tests.app.tasks.succeed", value=f'"{"x" * 300_000}"').content.decode()

    assert "MAX_ARGS_BYTES" in body
    assert list(fired) == []


def test_sensitive_arguments_stand_nowhere(client):
    pytest.importorskip("cryptography")

    @bgtasks.task(name="secretive", sensitive=["password"])
    async def log_in_there(user: str, password: str) -> None: ...

    assert 'type="password"' in show(client, "secretive")
    again = fire(client, "secretive", password="hunter2").content.decode()
    assert "hunter2" not in again
    fire(client, "secretive", user="ann", password="hunter2")

    [task] = fired
    assert task.name == "secretive"
    assert "hunter2" not in " ".join(f"{entry.object_repr} {entry.change_message}" for entry in LogEntry.objects.all())


def test_a_function_without_parameters_has_a_button_only(client):
    @bgtasks.task(name="simple")
    async def simple() -> None: ...

    assert "It takes no arguments." in show(client, "simple")
    assert fire(client, "simple").status_code == 302
    assert [task.name for task in fired] == ["simple"]


async def test_what_is_fired_is_there_at_once_and_runs(runtime: Runtime) -> None:
    """The row is committed before the answer, so the page that the answer leads to exists."""
    client = await sync_to_async(log_in)("fire_task")

    answer = await sync_to_async(fire)(client, "tests.app.tasks.succeed", value='{"a": [1, null]}')

    page = answer["Location"]
    shown = await sync_to_async(client.get)(page)
    assert shown.status_code == 200
    assert "Fired tests.app.tasks.succeed." in shown.content.decode()
    row_id = UUID(page.split("/")[-3])
    await wait_until(lambda: BackgroundTask.objects.filter(pk=row_id, status="SUCCESSFUL").aexists())
    row = await BackgroundTask.objects.aget(pk=row_id)
    assert row.result == {"a": [1, None]}
    assert [entry["status"] for entry in row.transitions] == ["READY", "RUNNING", "SUCCESSFUL"]
    assert (row.transitions[0]["by"], row.transitions[0]["why"]) == ("user ann", "fired in the admin")
    assert datetime.fromisoformat(row.transitions[0]["at"]) == row.created_at
    user = await User.objects.aget()
    assert row.fired_by == {"method": "POST", "path": PAGE, "user_id": user.pk}


async def test_a_function_that_is_fired_without_waiting_for_commits_is_there_too(runtime: Runtime) -> None:
    @bgtasks.task(name="impatient", fire_on_commit=False)
    def impatient(number: int) -> int:
        return number

    client = await sync_to_async(log_in)("fire_task")

    answer = await sync_to_async(fire)(client, "impatient", number="7")

    row_id = UUID(answer["Location"].split("/")[-3])
    await wait_until(lambda: BackgroundTask.objects.filter(pk=row_id, status="SUCCESSFUL").aexists())
    assert (await BackgroundTask.objects.aget(pk=row_id)).transitions[0]["by"] == "user ann"


async def test_a_key_that_is_taken_leads_to_who_has_it(runtime: Runtime) -> None:
    @bgtasks.task(name="keyed", key="k")
    async def keyed() -> None: ...

    holder = await BackgroundTask.objects.acreate(
        name="other", status="READY", key="k", live_key="k", created_at=timezone.now()
    )
    client = await sync_to_async(log_in)("fire_task")

    answer = await sync_to_async(fire)(client, "keyed")

    assert answer["Location"] == f"{TASKS}{holder.pk}/change/"
    assert await sync_to_async(said)(client) == ["Not fired: another task has the key k. This is its page."]
    assert await BackgroundTask.objects.acount() == 1
    assert not await LogEntry.objects.aexists()


async def test_a_draining_process_leaves_it_to_others(runtime: Runtime) -> None:
    client = await sync_to_async(log_in)("fire_task")
    await runtime.stop()

    answer = await sync_to_async(fire)(client, "tests.app.tasks.succeed", value="1")

    assert answer.status_code == 200
    assert "Not fired." in answer.content.decode()
    assert not await BackgroundTask.objects.aexists()
