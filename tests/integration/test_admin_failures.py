"""The page of failures: its groups, its links, its queries."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from bgtasks.admin import failures
from bgtasks.admin.shared import search_window
from bgtasks.definition import declared, task
from bgtasks.models import BackgroundTask
from bgtasks.status import Status
from tests.integration.test_admin_actions import HOSTILE, LIST, confirm, log_in, make_task, page_of, said

pytestmark = pytest.mark.django_db

PAGE = "/admin/bgtasks/failedtask/"


@pytest.fixture
def client(db: None) -> Client:
    return log_in("fire_task", "delete_backgroundtask")


def fail(name: str = "shop.tasks.charge", fingerprint: str = "a91f", minutes: float = 0, **more: Any) -> BackgroundTask:
    values = {"error_type": "shop.errors.Unavailable", "error_message": "no answer", "error_fingerprint": fingerprint}
    moment = timezone.now() - timedelta(minutes=minutes)
    return make_task(name, Status.FAILED, **{**values, "finished_at": moment, **more})


def groups_on(client: Client, **query: Any) -> list[dict[str, Any]]:
    answer = client.get(PAGE, query)
    assert answer.status_code == 200
    return answer.context["groups"]


def plain(text: str) -> str:
    return text.replace("<wbr>", "")


def test_what_failed_in_the_same_way_is_one_group(client):
    for minutes in (50, 20, 3):
        fail(minutes=minutes)
    other_place = fail(fingerprint="b2", minutes=10)
    other_function = fail("shop.tasks.refund", minutes=1)
    lost = [make_task("shop.tasks.charge", Status.LOST) for _ in range(2)]
    cut = make_task("shop.tasks.charge", Status.INTERRUPTED)
    make_task("shop.tasks.charge", Status.SUCCESSFUL)
    make_task("shop.tasks.charge", Status.CANCELLED)

    groups = groups_on(client)
    body = plain(client.get(PAGE).content.decode())

    found = {(plain(group["function"]), group["status"], group["is_error"]): group["count"] for group in groups}
    assert sum(group["count"] for group in groups) == 8
    assert [group["count"] for group in groups_on(client, order="most")] == [3, 2, 1, 1, 1]
    assert found["charge", "LOST", False] == 2
    assert found["charge", "INTERRUPTED", False] == 1
    assert found["refund", "FAILED", True] == 1
    for shown in (
        "Unavailable",
        "shop.errors",
        "no answer",
        "charge",
        "shop.tasks",
        "<polyline",
        "8 tasks that failed",
    ):
        assert shown in body
    for sample in (other_place, other_function, lost[-1], cut):
        assert f'href="{page_of(sample)}"' in body


def test_latest_come_first_and_each_says_since_when(client):
    old = fail("shop.tasks.old", minutes=300)
    fail("shop.tasks.new", minutes=2)
    fail("shop.tasks.new", minutes=200)

    new_group, old_group = groups_on(client)

    assert plain(new_group["function"]) == "new"
    assert new_group["first"] < new_group["last"]
    assert old_group["first"] == old_group["last"] != ""
    assert old_group["sample_url"] == page_of(old)
    assert new_group["picture"].top == 1


def test_each_group_leads_to_its_rows_and_to_nothing_else(client):
    task(name="shop.tasks.named", aliases=["shop.tasks.alias"])(lambda: None)
    try:
        for _ in range(2):
            fail()
        fail(fingerprint="b2")
        fail("shop.tasks.named")
        fail("shop.tasks.alias")
        for status in (Status.LOST, Status.INTERRUPTED):
            make_task("shop.tasks.charge", status)

        groups = groups_on(client)
        found = [len(client.get(group["rows_url"]).context["cl"].result_list) for group in groups]

        assert found == [group["count"] for group in groups]
        assert sorted(found) == [1, 1, 1, 2, 2]
        assert all(group["rows_url"].startswith(f"{LIST}?show=failed") for group in groups)
    finally:
        for name in ("shop.tasks.named", "shop.tasks.alias"):
            declared.pop(name, None)


def press(client: Client, label: str) -> Any:
    body = client.get(PAGE).content.decode()
    address = re.search(rf'href="([^"]*)">{label}<', body)
    assert address
    return client.get(unescape(address[1]))


def test_a_whole_group_is_fired_again(client):
    old = [fail("tests.app.tasks.succeed") for _ in range(3)]
    fail("shop.tasks.other", fingerprint="b2", minutes=60)

    asked = press(client, "Fire all again")

    assert "Fire 3 tasks again?" in asked.content.decode()
    assert confirm(client, asked).status_code == 302
    assert said(client) == ["3 tasks are fired again, as new ones that any process may start."]
    again = BackgroundTask.objects.exclude(fired_again_from=None).values_list("fired_again_from", flat=True)
    assert sorted(again) == sorted(row.pk for row in old)


def test_a_whole_group_is_deleted(client):
    for _ in range(3):
        make_task("shop.tasks.charge", Status.LOST)
    left = [make_task("shop.tasks.other", Status.LOST, finished_at=timezone.now() - timedelta(hours=1)).pk]
    left.append(make_task("shop.tasks.charge", Status.SUCCESSFUL).pk)

    assert confirm(client, press(client, "Delete all")).status_code == 302

    assert said(client) == ["3 tasks are deleted."]
    assert set(BackgroundTask.objects.values_list("pk", flat=True)) == set(left)


@pytest.mark.parametrize(
    ("permissions", "labels"),
    [
        ([], set()),
        (["fire_task"], {"Fire all again"}),
        (["delete_backgroundtask"], {"Delete all"}),
        (["cancel_task"], set()),
    ],
)
def test_buttons_are_for_those_who_may(db, permissions, labels):
    fail()

    body = log_in(*permissions, name="some").get(PAGE).content.decode()

    assert {label for label in ("Fire all again", "Delete all") if label in body} == labels


def test_view_permission_is_what_it_takes(db):
    User.objects.create(username="staff", is_staff=True)
    client = Client()
    assert "/login/" in client.get(PAGE)["Location"]
    client.force_login(User.objects.get())
    assert client.get(PAGE).status_code == 403
    viewer = log_in(name="viewer")
    assert viewer.get(PAGE).status_code == 200
    assert viewer.post(PAGE).status_code == 405
    assert client.get(f"{PAGE}add/").status_code == 404


def test_nothing_failed_is_said(client):
    make_task(status=Status.SUCCESSFUL)

    assert "Nothing has failed, was interrupted or got lost." in client.get(PAGE).content.decode()


def test_only_the_newest_are_read_and_that_is_said(client, monkeypatch):
    monkeypatch.setattr(failures, "RECENT_FAILED", 5)
    monkeypatch.setattr(failures, "MAX_GROUPS", 2)
    oldest = [fail(f"shop.tasks.number_{number}") for number in range(3)]
    for number in range(3, 8):
        fail(f"shop.tasks.number_{number}", minutes=8 - number)

    body = plain(client.get(PAGE).content.decode())

    assert "The newest 5 tasks that failed" in body
    assert "3 more groups are left out." in body
    assert "number_7" in body
    assert not any(page_of(row) in body for row in oldest)


def test_the_newest_are_those_of_all_statuses(client, monkeypatch):
    monkeypatch.setattr(failures, "RECENT_FAILED", 4)
    make_task("shop.tasks.older", Status.LOST)
    fail("shop.tasks.old")
    for status in (Status.FAILED, Status.LOST, Status.INTERRUPTED, Status.FAILED):
        make_task("shop.tasks.new", status, error_fingerprint="f")

    [group] = groups_on(client)

    assert (plain(group["function"]), group["count"]) == ("new", 4)
    assert "The newest 4 tasks that failed" in client.get(PAGE).content.decode()


def test_it_asks_as_much_of_many_groups_as_of_one(client):
    def ask() -> list[str]:
        with CaptureQueriesContext(connection) as queries:
            groups_on(client)
        return [each["sql"] for each in queries]

    fail()
    ask()
    of_one = ask()
    for number in range(40):
        fail(f"shop.tasks.number_{number}", fingerprint=f"{number}")
        make_task(f"shop.tasks.number_{number}", Status.LOST)
    of_many = ask()

    assert len(of_many) == len(of_one) <= 9
    assert not any("kwargs" in sql for sql in of_many)
    assert sum("traceback" in sql for sql in of_many) == 1  # The last lines of the samples' tracebacks.


def test_a_group_says_where_its_error_came_from(client):
    library = '  File "/v/site-packages/httpx/_client.py", line 9, in send\n    raise\n' * 30
    own = '  File "/srv/shop/<b>tasks.py", line 4, in send\n    call()\n'
    fail("deep", traceback=f"Traceback (most recent call last):\n{own * 200}{library}OSError: {'no ' * 9}")
    fail("odd", traceback="half")

    shown = {plain(group["function"]): group["place"] for group in groups_on(client)}

    assert shown == {"deep": "<b>tasks.py:4 in send", "odd": ""}
    assert b"&lt;b&gt;tasks.py:4 in send" in client.get(PAGE).content


def test_hostile_failures_stay_text(client):
    hostile = HOSTILE[:180]
    fail(hostile, fingerprint=hostile[:16], error_type=hostile, error_message=hostile)
    make_task(hostile, Status.LOST, finished_at=None)
    fail("x" * 200, error_message="m" * 9_000, error_type="")

    body = client.get(PAGE).content.decode()
    for group in groups_on(client):
        assert client.get(group["rows_url"]).status_code == 200
        assert len(client.get(group["rows_url"]).context["cl"].result_list) == 1

    assert "<script>alert" not in plain(body)
    assert "<img src=x" not in plain(body)
    assert "&lt;script&gt;" in plain(body)
    assert "m" * 400 not in body


@pytest.mark.parametrize("order", ["", "x", "\x00", "most", "latest"])
def test_any_order_is_no_error(client, order):
    fail()
    make_task(status=Status.FAILED, finished_at=None)

    assert len(groups_on(client, order=order)) == 2


def test_rows_and_groups_name_each_other(client):
    fail()

    assert f'href="{LIST}?show=failed"' in client.get(PAGE).content.decode()
    assert f'href="{PAGE}"' in client.get(LIST, {"show": "failed"}).content.decode().split("changelist-form")[-1]
    assert search_window.RECENT_FAILED == failures.RECENT_FAILED
