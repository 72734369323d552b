"""The admin's actions, cancel and fire again: permissions, effects on rows, messages and log entries."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from html import unescape
from threading import Barrier
from typing import Any
from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async
from django.apps import apps
from django.contrib.admin.models import DELETION, LogEntry
from django.contrib.auth.models import Permission, User
from django.contrib.messages import get_messages
from django.db import OperationalError, connection
from django.db.models import JSONField, Value
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

import bgtasks
from bgtasks import transitions
from bgtasks.admin.shared import paginator
from bgtasks.admin.tasks import actions as task_actions
from bgtasks.admin.tasks import bulk_actions
from bgtasks.models import BackgroundTask, Ledger
from bgtasks.operations import fire_again as fire_again_module
from bgtasks.operations.fire_again import COPIED, Refusal, fire_again
from bgtasks.status import FINISHED, LIVE, Status
from bgtasks.transitions import Cancellation
from tests.app import tasks
from tests.conftest import Runtime, read_row, wait_until
from tests.staff import log_in

LIST = "/admin/bgtasks/backgroundtask/"
NULL = Value(None, JSONField())  # As JSON, not as SQL.
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7|add:7 }} %s %(count)s %"


def make_task(name: str = "tests.app.tasks.succeed", status: Status = Status.FAILED, **more: Any) -> BackgroundTask:
    now = timezone.now()
    ends = {"finished_at": now, "attempt": 1} if status in FINISHED else {}
    return BackgroundTask.objects.create(name=name, status=status, **({"created_at": now} | ends | more))


@pytest.fixture
def client(db: None) -> Client:
    return log_in("cancel_task", "fire_task")


def act(client: Client, action: str, *rows: Any, **more: Any) -> list[str]:
    """Run an action on the list, and confirm it where it asks; return its messages."""
    answer = choose(client, action, *rows, **more)
    if answer.status_code == 200:
        answer = confirm(client, answer)
    assert (answer.status_code, answer["Location"]) == (302, LIST)
    return said(client)


def choose(client: Client, action: str, *rows: Any, address: str = LIST, **more: Any) -> Any:
    """Run an action on the list; return the answer, which may be the page that asks for confirmation."""
    ids = [str(getattr(row, "pk", row)) for row in rows]
    answer = client.post(address, {"action": action, "_selected_action": ids, "index": 0, **more})
    return client.get(answer["Location"]) if "/ask/" in answer.get("Location", "") else answer


def confirm(client: Client, asked: Any) -> Any:
    """Press the button of the page that asks for confirmation."""
    body = asked.content.decode()
    address = re.search(r'<form method="post" action="([^"]*)"', body)
    assert address
    selected = re.findall(r'name="_selected_action" value="([^"]*)"', body)
    return client.post(unescape(address[1]), {"_selected_action": selected} if selected else {})


def press(client: Client, row: BackgroundTask, button: str) -> Any:
    return client.post(reverse(f"admin:bgtasks_backgroundtask_{button}", args=[row.pk]))


def said(client: Client) -> list[str]:
    return [str(message) for message in get_messages(client.get(LIST).wsgi_request)]


def page_of(row: BackgroundTask) -> str:
    return f"{LIST}{row.pk}/change/"


def reload(row: BackgroundTask) -> BackgroundTask:
    return BackgroundTask.objects.get(pk=row.pk)


def read_log() -> list[tuple[str, str]]:
    return [(entry.object_id, entry.change_message) for entry in LogEntry.objects.order_by("pk")]


# Permissions.


ACTIONS = [("cancel_tasks", "cancel", "cancel_task"), ("fire_tasks_again", "fire_again", "fire_task")]


def make_rows() -> list[BackgroundTask]:
    return [make_task(status=status) for status in Status]


@pytest.mark.parametrize(("action", "button", "permission"), ACTIONS)
def test_without_the_permission_nothing_is_offered_and_nothing_is_done(db, action, button, permission):
    [other] = {"cancel_task", "fire_task"} - {permission}
    rows = make_rows()
    before = list(BackgroundTask.objects.order_by("pk").values())
    viewer, half = log_in(name="viewer"), log_in(other, name="half")

    assert 'type="checkbox"' not in viewer.get(LIST).content.decode()
    assert f'value="{action}"' not in half.get(LIST).content.decode()
    for client in (viewer, half):
        for row in rows:
            assert f"/{row.pk}/{button.replace('_', '-')}/" not in client.get(page_of(row)).content.decode()
            assert press(client, row, button).status_code == 403
    forged = {"action": action, "_selected_action": [str(row.pk) for row in rows], "index": 0}
    assert viewer.post(LIST, forged).status_code == 403
    half.post(LIST, forged)
    assert said(half) == ["No action selected."]

    assert list(BackgroundTask.objects.order_by("pk").values()) == before
    assert read_log() == []


@pytest.mark.parametrize(("action", "button", "permission"), ACTIONS)
def test_the_permission_without_that_to_look_is_not_enough(db, action, button, permission):
    row = make_task(status=Status.READY)
    client = log_in(permission)
    User.objects.get().user_permissions.remove(Permission.objects.get(codename="view_backgroundtask"))

    assert press(client, row, button).status_code == 403
    forged = {"action": action, "_selected_action": [str(row.pk)], "index": 0}
    assert client.post(LIST, forged).status_code == 403
    assert list(BackgroundTask.objects.values_list("status", flat=True)) == ["READY"]


@pytest.mark.parametrize(("action", "button", "permission"), ACTIONS)
def test_only_a_post_with_the_token_acts(client, action, button, permission):
    row = make_task(status=Status.READY)
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.get())

    assert client.get(reverse(f"admin:bgtasks_backgroundtask_{button}", args=[row.pk])).status_code == 405
    assert press(strict, row, button).status_code == 403
    assert strict.post(LIST, {"action": action, "_selected_action": [str(row.pk)], "index": 0}).status_code == 403
    assert "/login/" in press(Client(), row, button)["Location"]

    token = re.search(r'csrfmiddlewaretoken" value="(\w+)"', strict.get(page_of(row)).content.decode())
    assert token
    address = reverse("admin:bgtasks_backgroundtask_cancel", args=[row.pk])
    assert strict.post(address, {"csrfmiddlewaretoken": token[1]}).status_code == 302
    assert reload(row).status == "CANCELLED"


def test_buttons_stand_where_they_act(client):
    for status in Status:
        body = client.get(page_of(make_task(status=status))).content.decode()

        assert ("/cancel/" in body) is (status in LIVE)
        assert ("/fire-again/" in body) is (status in FINISHED)

    assert "/cancel/" not in client.get(page_of(make_task(cancel_requested_at=timezone.now()))).content.decode()
    for cannot in ({"is_task_function": False}, {"args": NULL, "kwargs": NULL}):
        assert "/fire-again/" not in client.get(page_of(make_task(**cannot))).content.decode()


@pytest.mark.parametrize("ids", [["x"], ["%00"], ["' OR 1=1"], ["\x00"], ["9" * 500]])
def test_ids_that_are_none_are_no_error(client, ids):
    row = make_task(status=Status.READY)

    assert act(client, "cancel_tasks", *ids) == ["The selection does not consist of tasks. Nothing was done."]
    assert reload(row).status == "READY"


def test_ids_of_nothing_are_no_error(client):
    row = make_task()
    BackgroundTask.objects.all().delete()

    assert act(client, "cancel_tasks", uuid4()) == [
        "None of the selected tasks is there any more, or matches the filter. Nothing was done."
    ]
    assert press(client, row, "cancel")["Location"] == LIST
    assert said(client) == ["This task was deleted."]


@pytest.mark.parametrize("action", ["cancel_tasks", "fire_tasks_again"])
def test_more_ids_than_a_list_shows_are_refused_whole(client, monkeypatch, action):
    monkeypatch.setattr(bulk_actions, "MAX_SELECTED", 2)
    rows = make_rows()

    said = act(client, action, *rows)

    assert said == ["More than 2 tasks are named, which is too many at once. Nothing was done."]
    assert {row.status for row in BackgroundTask.objects.all()} == set(Status)


def test_all_pages_can_be_selected(client):
    for _ in range(60):
        make_task(status=Status.READY)

    assert act(client, "cancel_tasks", BackgroundTask.objects.first(), select_across=1) == ["60 tasks are cancelled."]
    assert not BackgroundTask.objects.exclude(status="CANCELLED").exists()


# Confirmation.


@pytest.fixture
def deleter(db: None) -> Client:
    return log_in("cancel_task", "fire_task", "delete_backgroundtask")


def change(monkeypatch: pytest.MonkeyPatch, action: str, **values: Any) -> None:
    changed = {**bulk_actions.BULK_ACTIONS, action: replace(bulk_actions.BULK_ACTIONS[action], **values)}
    monkeypatch.setattr(bulk_actions, "BULK_ACTIONS", changed)


def test_many_are_asked_about_and_one_is_not(client):
    rows = [make_task(status=Status.READY) for _ in range(7)]

    asked = choose(client, "cancel_tasks", *rows)

    body = asked.content.decode()
    assert asked.status_code == 200
    assert "Cancel 7 tasks?" in body
    assert body.count("bgtasks-is-ready") == bulk_actions.SAMPLES
    assert BackgroundTask.objects.filter(status="READY").count() == 7
    assert act(client, "cancel_tasks", rows[0]) == ["1 task is cancelled."]
    assert confirm(client, asked)["Location"] == LIST
    assert said(client) == ["6 tasks are cancelled.", "1 task had finished already."]


def test_all_that_match_are_asked_about_with_the_filter(client):
    for _ in range(3):
        make_task("shop.tasks.charge", Status.FAILED)
    make_task("shop.tasks.charge", Status.READY)
    make_task("shop.tasks.other", Status.FAILED)
    address = f"{LIST}?name=shop.tasks.charge&fired=day"

    asked = choose(client, "fire_tasks_again", uuid4(), address=address, select_across=1)

    body = asked.content.decode()
    assert "Fire 3 tasks again?" in body
    assert "In the last 24 hours" in body
    assert body.count(">shop.tasks.charge<") == 4  # The filter and three samples.
    make_task("shop.tasks.charge", Status.FAILED)  # Fired after the question, so not part of it.
    assert confirm(client, asked)["Location"] == address
    assert said(client)[0] == "3 tasks are fired again, as new ones that any process may start."
    assert BackgroundTask.objects.exclude(fired_again_from=None).count() == 3


@pytest.mark.parametrize("few", [1, 500])
@pytest.mark.parametrize(
    ("action", "most", "done"),
    [
        ("fire_tasks_again", 2, "2 tasks are fired again, as new ones that any process may start."),
        ("cancel_tasks", 2, "2 tasks are cancelled."),
        ("delete_tasks", 2, "2 tasks are deleted."),
    ],
)
def test_what_is_too_much_for_a_request_is_done_in_parts_that_are_asked_about(
    deleter, monkeypatch, action, most, done, few
):
    monkeypatch.setattr(paginator, "FEW", few)
    change(monkeypatch, action, most=most)
    status = Status.READY if action == "cancel_tasks" else Status.FAILED
    rows = [make_task(status=status) for _ in range(5)]

    asked = choose(deleter, action, rows[0], select_across=1)
    messages = []
    for left in (5, 3, 1):
        assert f"{left} " in asked.context["title"]
        assert ("You are asked about the rest" in asked.content.decode()) is (left > most)
        answer = confirm(deleter, asked)
        asked = deleter.get(answer["Location"])
        messages.append([str(message) for message in get_messages(asked.wsgi_request)])

    assert answer["Location"] == LIST
    assert [len(each) for each in messages] == [2, 2, 1]
    assert messages[0] == [done, "That was one part. More tasks match: go on, or leave them."]
    acted = {
        "fire_tasks_again": BackgroundTask.objects.exclude(fired_again_from=None).count(),
        "cancel_tasks": BackgroundTask.objects.filter(status="CANCELLED").count(),
        "delete_tasks": 5 - BackgroundTask.objects.count(),
    }
    assert acted[action] == 5
    assert len(read_log()) == 5


def test_a_part_that_the_database_refuses_is_reported(deleter, monkeypatch):
    rows = [make_task() for _ in range(4)]
    monkeypatch.setattr(task_actions, "BATCH", 2)
    fire = fire_again_module.fire_again

    def refuse_the_second(using: str, ids: Any, *args: Any) -> Any:
        if rows[2].pk in ids:
            raise OperationalError("the disk is full")
        return fire(using, ids, *args)

    monkeypatch.setattr(fire_again_module, "fire_again", refuse_the_second)

    assert act(deleter, "fire_tasks_again", *rows) == [
        "2 tasks are fired again, as new ones that any process may start.",
        "The database stopped the action: the part reported above is done, and the rest is not.",
    ]
    assert BackgroundTask.objects.exclude(fired_again_from=None).count() == 2


def test_a_number_past_the_cap_is_not_called_exact(deleter, monkeypatch):
    monkeypatch.setattr(paginator, "MAX_COUNT", 3)
    for _ in range(5):
        make_task()

    body = choose(deleter, "delete_tasks", uuid4(), select_across=1).content.decode()

    assert "Delete finished: more than 3 tasks match" in body
    assert "No filter is set: all tasks match." in body


def test_nothing_to_act_on_is_said(deleter):
    make_task(status=Status.READY)

    answer = deleter.get(f"{LIST}ask/delete_tasks/")

    assert answer["Location"] == LIST
    assert said(deleter) == ["No task matches for which that could be done."]


@pytest.mark.parametrize("action", bulk_actions.BULK_ACTIONS)
def test_the_page_that_asks_is_for_those_who_may(db, action):
    row = make_task(status=Status.READY if action == "cancel_tasks" else Status.FAILED)
    permissions = {
        "cancel_tasks": "cancel_task",
        "fire_tasks_again": "fire_task",
        "delete_tasks": "delete_backgroundtask",
    }
    address = f"{LIST}ask/{action}/"
    others = log_in(*({*permissions.values()} - {permissions[action]}), name="others")

    for client in (log_in(name="viewer"), others):
        assert client.get(address).status_code == 403
        assert client.post(f"{address}?until={row.pk}").status_code == 403
        assert client.post(address, {"_selected_action": [str(row.pk)]}).status_code == 403
    assert "/login/" in Client().post(address)["Location"]
    strict = Client(enforce_csrf_checks=True)
    log_in(permissions[action], name="may")
    strict.force_login(User.objects.get(username="may"))
    assert strict.get(address).status_code == 200
    assert strict.post(f"{address}?until={row.pk}").status_code == 403

    assert list(BackgroundTask.objects.values_list("pk", "status")) == [(row.pk, row.status)]
    assert read_log() == []


def test_a_post_that_was_not_asked_about_asks(client):
    make_task()

    answer = client.post(f"{LIST}ask/fire_tasks_again/")

    assert "Fire 1 task again?" in answer.content.decode()
    assert BackgroundTask.objects.count() == 1


@pytest.mark.parametrize("query", [{"until": "x"}, {"after": "\x00"}, {"name": "\x00"}, {"x": "y"}, {"status": "x"}])
def test_hostile_questions_are_no_errors(deleter, query):
    make_task()

    for action in bulk_actions.BULK_ACTIONS:
        assert deleter.get(f"{LIST}ask/{action}/", query).status_code in (200, 302, 400)
    assert deleter.get(f"{LIST}ask/other/").status_code == 404
    assert deleter.post(f"{LIST}ask/delete_tasks/", {"_selected_action": ["x", "\x00"]}).status_code == 302
    assert BackgroundTask.objects.count() == 1


# Deleting.


def test_what_has_finished_is_deleted_logged_and_counted(deleter):
    counted = [make_task(status=status, origin=uuid4()) for status in sorted(FINISHED)]
    uncounted = make_task()
    live = [make_task(status=status) for status in sorted(LIVE)]
    before = Ledger.objects.filter(pk=Ledger.ID).values_list("gone_count", flat=True).first() or 0

    said = act(deleter, "delete_tasks", *counted, uncounted, *live)

    assert said == ["6 tasks are deleted.", "2 tasks are not deleted: they have not finished, or were deleted already."]
    assert set(BackgroundTask.objects.values_list("pk", flat=True)) == {row.pk for row in live}
    assert Ledger.objects.get(pk=Ledger.ID).gone_count == before + 5
    logged = LogEntry.objects.values_list("object_id", "action_flag", "object_repr")
    assert sorted(logged) == sorted((str(row.pk), DELETION, str(row)) for row in [*counted, uncounted])


def test_a_deletion_is_asked_about_even_if_it_is_of_one(deleter):
    row = make_task()

    asked = choose(deleter, "delete_tasks", row)

    assert "Delete 1 finished task?" in asked.content.decode()
    assert BackgroundTask.objects.exists()
    assert act(deleter, "delete_tasks", row) == ["1 task is deleted."]


# Cancelling.


def test_a_selection_is_cancelled_as_far_as_it_lives(client):
    process = uuid4()
    waiting = make_task(status=Status.READY, key="k", live_key="k")
    running = [make_task(status=Status.RUNNING, process=process, attempt=1) for _ in range(2)]
    waiting_object = make_task(status=Status.READY, process=process, is_task_function=False)
    finished = [make_task(status=status) for status in FINISHED]

    said = act(client, "cancel_tasks", waiting, *running, waiting_object, *finished)

    assert said == [
        "1 task is cancelled.",
        "3 tasks are asked to stop: the processes that have them act within a second.",
        "5 tasks had finished already.",
    ]
    row = reload(waiting)
    assert (row.status, row.live_key, row.finished_at is not None) == ("CANCELLED", None, True)
    assert {key: row.transitions[-1][key] for key in ("status", "by", "why")} == {
        "status": "CANCELLED",
        "by": "user ann",
        "why": "cancelled in the admin",
    }
    for asked in [*running, waiting_object]:
        assert reload(asked).status == asked.status
        assert reload(asked).cancel_requested_at is not None
    for row in finished:
        assert (reload(row).status, reload(row).transitions, reload(row).cancel_requested_at) == (row.status, [], None)
    logged = [(str(waiting.pk), "Cancelled."), *((str(row.pk), "Asked to stop.") for row in [*running, waiting_object])]
    assert sorted(read_log()) == sorted(logged)


def test_button_cancels_and_leads_back_to_the_page(client):
    row = make_task(status=Status.READY)

    answer = press(client, row, "cancel")

    assert answer["Location"] == page_of(row)
    body = client.get(page_of(row)).content.decode()
    assert "1 task is cancelled." in body
    assert "by user ann" in body
    assert press(client, row, "cancel").status_code == 302
    assert said(client) == ["1 task had finished already."]
    assert read_log() == [(str(row.pk), "Cancelled.")]
    assert "Cancelled." in client.get(f"{LIST}{row.pk}/history/").content.decode()


def test_a_second_wish_to_cancel_keeps_the_moment_of_the_first(client):
    row = make_task(status=Status.RUNNING, process=uuid4(), attempt=1)
    press(client, row, "cancel")
    first = reload(row).cancel_requested_at

    press(client, row, "cancel")

    assert reload(row).cancel_requested_at == first


def test_a_task_that_changes_at_each_try_is_not_called_cancelled(db, monkeypatch):
    row = make_task(status=Status.READY)
    attempts = iter(range(1, 100))
    read = BackgroundTask.objects.all().__class__.values

    def change_afterwards(self: Any, *fields: str) -> Any:
        found = list(read(self, *fields))
        BackgroundTask.objects.filter(pk=row.pk).update(attempt=next(attempts))
        return type("Found", (), {"first": lambda self: found[0]})()

    monkeypatch.setattr(type(BackgroundTask.objects.all()), "values", change_afterwards)

    assert transitions.cancel("default", row.pk, "a test", "asked") is Cancellation.MISSED
    assert not Cancellation.MISSED


async def test_a_running_task_is_cancelled_by_the_action(runtime: Runtime) -> None:
    handle = bgtasks.fire(tasks.sleep, 3600)
    await wait_until(lambda: BackgroundTask.objects.filter(pk=handle.id, status="RUNNING").aexists())

    client = await sync_to_async(log_in)("cancel_task")
    said = await sync_to_async(act)(client, "cancel_tasks", handle.id)

    assert said == ["1 task is asked to stop: the process that has it acts within a second."]
    with pytest.raises(bgtasks.TaskCancelled):
        await handle.wait(timeout=20)
    assert (await read_row(handle)).status == "CANCELLED"


# Firing again.


def test_finished_tasks_are_fired_again(client):
    options = {
        "on_lost": "rerun",
        "stuck_after": 2.5,
        "max_attempts": 3,
        "priority": 7,
        "queue_name": "slow",
        "options": {"timeout": 5},
        "key": "k",
        "unique_for": 60.0,
        "rate_key": "account",
        "signature_fingerprint": "1:0123456789abcd",
    }
    contents = {"args": [1, "ä", None, {"a": [2.5]}], "kwargs": {"x": True}}
    old = make_task(**options, **contents, process=uuid4(), origin=uuid4(), attempt=3, result=5, error_type="E")
    others = [make_task(status=status) for status in FINISHED]

    said = act(client, "fire_tasks_again", old, *others)

    assert said == ["6 tasks are fired again, as new ones that any process may start."]
    assert reload(old).transitions == []
    new = BackgroundTask.objects.get(fired_again_from=old.pk)
    assert {name: getattr(new, name) for name in COPIED} == {"name": old.name, **options, **contents}
    assert (new.status, new.attempt, new.process, new.origin) == ("READY", 0, None, None)
    assert (new.started_at, new.finished_at, new.result, new.error_type, new.live_key) == (None, None, None, "", "k")
    assert new.pk > old.pk
    [entry] = new.transitions
    assert {key: entry[key] for key in ("status", "attempt", "by", "why")} == {
        "status": "READY",
        "attempt": 0,
        "by": "user ann",
        "why": "fired again in the admin",
    }
    assert (str(old.pk), f"Fired again as {new.pk}.") in read_log()
    assert len(read_log()) == 6


def test_what_cannot_be_fired_again_is_refused_with_the_reason(client):
    live = [make_task(status=status) for status in sorted(LIVE)]
    was_object = make_task(is_task_function=False)
    stripped = make_task(args=NULL, kwargs=NULL)
    odd = make_task(args={"a": 1}, kwargs=[])
    repeated = make_task()
    press(client, repeated, "fire_again")
    LogEntry.objects.all().delete()
    count = BackgroundTask.objects.count()

    said = act(client, "fire_tasks_again", *live, was_object, stripped, odd, repeated)

    assert said[-4:] == [
        "2 tasks are not fired again: they have not finished.",
        "1 task is not fired again: it was a coroutine object, which cannot be run twice.",
        "2 tasks are not fired again: their arguments are not stored, since the database refused them.",
        "1 task is not fired again: it was already, and that task has not finished.",
    ]
    assert BackgroundTask.objects.count() == count
    assert read_log() == []


def test_a_task_may_be_fired_again_once_its_repetition_has_finished(client):
    old = make_task()
    press(client, old, "fire_again")
    press(client, old, "fire_again")
    BackgroundTask.objects.filter(fired_again_from=old.pk).update(status="FAILED")

    press(client, old, "fire_again")

    assert BackgroundTask.objects.filter(fired_again_from=old.pk).count() == 2


def test_the_same_tasks_fired_again_by_two_users_at_once_start_once(transactional_db):
    ids = [make_task().pk for _ in range(5)]
    together = Barrier(4)

    def fire(number: int) -> int:
        try:
            together.wait(20)
            return len(fire_again("default", ids[number:] + ids[:number], f"user {number}", "asked").fired)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as threads:
        fired = sum(threads.map(fire, range(4)))

    assert fired == 5
    assert sorted(BackgroundTask.objects.filter(status="READY").values_list("fired_again_from", flat=True)) == ids


def test_a_deleted_task_is_refused(db):
    gone = uuid4()

    assert fire_again("default", [gone], "a test", "asked").refused == {gone: Refusal.GONE}


def test_button_leads_to_the_new_task_and_the_pages_name_each_other(client):
    old = make_task()

    answer = press(client, old, "fire_again")

    new = BackgroundTask.objects.get(fired_again_from=old.pk)
    assert answer["Location"] == page_of(new)
    body = client.get(page_of(new)).content.decode()
    assert "1 task is fired again" in body
    assert "by user ann" in body
    assert f'href="{page_of(old)}"' in body
    assert f'href="{page_of(new)}"' in client.get(page_of(old)).content.decode()


def test_a_page_asks_as_much_however_often_it_was_fired_again(client):
    def count_queries(row: BackgroundTask) -> int:
        client.get(page_of(row))
        with CaptureQueriesContext(connection) as queries:
            assert client.get(page_of(row)).status_code == 200
        return len(queries)

    old = make_task()
    never = count_queries(old)
    for _ in range(20):
        make_task(fired_again_from=old.pk)

    assert count_queries(old) == never
    assert client.get(page_of(old)).content.decode().count("bgtasks-badge bgtasks-is-failed") == 11  # Its own and 10.


def test_tasks_that_were_fired_again_are_found_by_an_index(db):
    old = make_task()
    for number in range(200):
        make_task(f"shop.tasks.number_{number}")
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")  # With few rows it reads all of them.

    plan = BackgroundTask.objects.fired_again_from(old).explain()

    assert ("bgtasks_name" if connection.vendor == "mysql" else "bgtasks_again") in plan


def test_a_name_that_this_process_does_not_know_is_fired_and_named(client):
    rows = [make_task("shop.tasks.charge"), make_task(HOSTILE), make_task()]

    said = act(client, "fire_tasks_again", *rows)

    assert said == [
        "3 tasks are fired again, as new ones that any process may start.",
        f"Not known in this process, so a process that knows it has to start it: {HOSTILE}, shop.tasks.charge.",
    ]
    assert BackgroundTask.objects.filter(name="shop.tasks.charge", status="READY").count() == 1


def test_hostile_names_stay_text(db):
    client = log_in("cancel_task", "fire_task", name=HOSTILE)
    row = make_task(HOSTILE)

    new = client.get(press(client, row, "fire_again")["Location"]).content.decode()
    client.post(LIST, {"action": "fire_tasks_again", "_selected_action": [str(row.pk)], "index": 0})
    addresses = (LIST, page_of(row), f"{LIST}{row.pk}/history/")
    bodies = [new, *(client.get(address).content.decode() for address in addresses)]

    for body in bodies:
        assert "<script>alert" not in body
        assert "<img src=x" not in body
        assert "&lt;script&gt;" in body


def test_no_runtime_is_started_for_it(client):
    config = apps.get_app_config("bgtasks")
    config.__dict__.pop("runner", None)

    act(client, "cancel_tasks", make_task(status=Status.READY))
    press(client, make_task(), "fire_again")

    assert "runner" not in config.__dict__


async def test_a_task_that_is_fired_again_is_claimed_and_ends(runtime: Runtime, monkeypatch: Any) -> None:
    """The rows come from a runtime, so rows in their stored form can be fired again."""
    bgtasks.api.get_runner().state.is_server = True  # As in a server.
    handle = bgtasks.fire(tasks.succeed, {"a": [1, "x"]})
    unnamed = bgtasks.fire(tasks.succeed.func, 1)  # Neither this nor the next can be found by name.
    coroutine = bgtasks.fire(tasks.succeed.func(1), name="tests.app.tasks.succeed")
    olds = [await read_row(each) for each in (handle, unnamed, coroutine)]

    client = await sync_to_async(log_in)("fire_task")
    said = await sync_to_async(act)(client, "fire_tasks_again", *olds)

    assert said == [
        "1 task is fired again, as a new one that any process may start.",
        "2 tasks are not fired again: they were coroutine objects, which cannot be run twice.",
    ]
    again = BackgroundTask.objects.filter(fired_again_from=handle.id)
    await wait_until(again.filter(status="SUCCESSFUL").aexists)
    new = await again.aget()
    assert new.result == {"a": [1, "x"]}
    assert [entry["status"] for entry in new.transitions] == ["READY", "RUNNING", "SUCCESSFUL"]
    assert new.is_task_function
