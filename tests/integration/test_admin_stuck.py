"""The page of stuck tasks: the reason for each, the verdict that will apply, and the actions of staff."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.contrib.messages import get_messages
from django.db import connection
from django.db.models import F
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone, translation

import bgtasks
from bgtasks.admin.stuck import actions as stuck_actions
from bgtasks.admin.stuck import page as stuck
from bgtasks.conf import get_settings
from bgtasks.models import BackgroundTask, Process
from bgtasks.operations.rescue_by_hand import VerdictRequest, background_watch
from bgtasks.status import FINISHED, Status
from bgtasks.transitions import Verdict
from tests.app import tasks
from tests.conftest import Runtime, read_row, wait_until
from tests.staff import log_in

PAGE = "/admin/bgtasks/stucktask/"
APPLY, CANCEL = f"{PAGE}apply/", f"{PAGE}cancel/"
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7|add:7 }} javascript:alert(3) %s %(names)s"
ACTIONS = [(APPLY, "apply_verdict"), (CANCEL, "cancel_task")]


def make_process(**more: Any) -> Process:
    now = timezone.now()
    values = {"host": "web-1", "pid": 4312, "server": "uvicorn", "started_at": now, "beat_at": now, "beat": 7}
    return Process.objects.create(**(values | more))


def make_dead(**more: Any) -> Process:
    return make_process(**({"state": Process.State.DEAD, "pid": 13} | more))


def make_silent(**more: Any) -> Process:
    return make_process(**({"beat_at": timezone.now() - timedelta(hours=1), "pid": 14} | more))


def make_task(name: str = "shop.tasks.export", **more: Any) -> BackgroundTask:
    now = timezone.now()
    values = {
        "status": Status.RUNNING,
        "created_at": now - timedelta(minutes=11),
        "started_at": now - timedelta(minutes=10),
        "attempt": 1,
    }
    return BackgroundTask.objects.create(name=name, **(values | more))


def make_waiting(**more: Any) -> BackgroundTask:
    return make_task(**({"status": Status.READY, "started_at": None, "attempt": 0} | more))


@pytest.fixture
def client(db: None) -> Client:
    return log_in("apply_verdict", "cancel_task", "view_process")


@pytest.fixture
def page(client: Client) -> Callable[[], str]:
    def fetch() -> str:
        answer = client.get(PAGE)
        assert answer.status_code == 200
        return re.sub(r"\s+", " ", answer.content.decode())

    return fetch


@pytest.fixture
def quick(settings: Any) -> Iterator[None]:
    """Make a watch short, and let none outlive the test."""
    settings.BGTASKS = {**settings.BGTASKS, "HEARTBEAT": 0.5, "DEAD_AFTER": 1}
    yield
    for thread in find_watches():
        thread.join(20)


def find_watches() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "bgtasks-watch"]


def wait_for_watches() -> None:
    for thread in find_watches():
        thread.join(20)
        assert not thread.is_alive()


def tick(client: Client, address: str, *rows: Any, **more: Any) -> list[str]:
    """Tick rows and press a button; return the messages."""
    answer = client.post(address, {"task": [str(getattr(row, "pk", row)) for row in rows], **more})
    assert (answer.status_code, answer["Location"]) == (302, PAGE)
    return said(client)


def said(client: Client) -> list[str]:
    return [str(message) for message in get_messages(client.get(PAGE).wsgi_request)]


def status_of(row: BackgroundTask) -> str:
    return str(BackgroundTask.objects.values_list("status", flat=True).get(pk=row.pk))


def read_log() -> list[tuple[str, str, str]]:
    entries = LogEntry.objects.order_by("pk")
    return [(entry.content_type.model, entry.object_id, entry.change_message) for entry in entries]


# Content.


def test_nothing_is_stuck(page):
    make_task(process=make_process().pk)
    make_task(status=Status.FAILED)

    body = page()

    assert "Nothing is stuck." in body
    assert "has not beaten for 5 s" in body  # Reasons.
    assert 'type="checkbox"' not in body


def test_each_is_shown_with_the_reason_and_the_process(page):
    alive, dead, silent = make_process(pid=12), make_dead(), make_silent()
    lost = make_task("shop.tasks.lost", process=dead.pk)
    quiet = make_task("shop.tasks.quiet", process=silent.pk)
    unknown = make_task("shop.tasks.unknown", process=uuid4())
    long = make_task("shop.tasks.long", process=alive.pk, stuck_after=5)
    waiting = make_waiting(name="shop.tasks.waiting")
    make_task("shop.tasks.fine", process=alive.pk)

    body = page()

    for row in (lost, quiet, unknown, long, waiting):
        assert f'href="/admin/bgtasks/backgroundtask/{row.pk}/change/"' in body
    assert "shop.tasks.fine" not in body
    assert ">fine<" not in body
    for shown in (
        "Its process has ended (DEAD).",
        "Its process has not beaten for 3600 s.",
        "Its process is not known.",
        "It runs for longer than 5 s.",
        "It waits for longer than 300 s.",
        "10 min",
    ):
        assert shown in body
    for process in (alive, dead, silent):
        assert f'<a href="/admin/bgtasks/process/{process.pk}/change/">{process.host}:{process.pid}</a>' in body
    assert body.index(">lost<") < body.index(">long<") < body.index(">waiting<")


def test_where_it_awaits_and_since_when(page):
    alive = make_process(blocked_since=timezone.now() - timedelta(seconds=42))
    since = timezone.now() - timedelta(minutes=2)
    place = {"file": "/srv/shop/tasks.py", "line": 31, "function": "charge", "since": since.isoformat()}
    make_task(process=alive.pk, stuck_after=5, await_place=place)

    body = page()

    for shown in ("/srv/shop/tasks.py:31", "in charge", "for 2 min", "has not answered for 42"):
        assert shown in body


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ({}, ["bgtasks-is-lost", "it is not declared to run again"]),
        ({"on_lost": "rerun", "max_attempts": 3}, ["Runs again", "attempt 2 of 3"]),
        ({"on_lost": "rerun", "max_attempts": 3, "attempt": 3}, ["bgtasks-is-lost", "no attempts left"]),
        (
            {"cancel_requested_at": timezone.now(), "on_lost": "rerun"},
            ["bgtasks-is-cancelled", "Its cancellation was requested."],
        ),
        ({"status": Status.READY, "is_task_function": False}, ["bgtasks-is-lost"]),
    ],
)
def test_the_verdict_that_will_apply(client, page, values, shown):
    """The verdict on the page is the one that is given."""
    dead = make_dead()
    row = make_task(process=dead.pk, **values)

    body = page()
    tick(client, APPLY, row)

    for each in shown:
        assert each in body
    expected = {"Runs again": "READY", "bgtasks-is-lost": "LOST", "bgtasks-is-cancelled": "CANCELLED"}[shown[0]]
    assert status_of(row) == expected


def test_a_drain_gives_the_attempt_back(page):
    make_task(process=make_process(state=Process.State.STOPPED).pk, on_lost="rerun", max_attempts=3)

    assert "attempt 1 of 3" in page()


@pytest.mark.parametrize(
    ("make", "is_up", "shown"),
    [
        (make_dead, True, "At the next check of a living process, within 500 ms."),
        (make_dead, False, "No process is up to give it: apply it now, or start a process."),
        (make_silent, True, "Once a living process has seen no beat of it for 5 s"),
        (make_silent, False, "Applying it now watches it for 5.50 s first."),
    ],
)
def test_when_the_verdict_comes(page, make, is_up, shown):
    make_task(process=make().pk)
    if is_up:
        make_process()

    assert shown in page()


def test_what_runs_for_too_long_gets_no_verdict(page):
    make_task(process=make_process().pk, stuck_after=5)
    assert "Its process lives. Cancel it, if it is to end." in page()
    assert "Apply now" not in page()

    BackgroundTask.objects.update(cancel_requested_at=timezone.now())

    body = page()
    assert "It was asked to stop at" in body
    assert 'name="one"' not in body


def test_who_starts_what_waits(page):
    make_waiting()
    assert "No process is up that takes tasks." in page()
    make_process(state=Process.State.DRAINING)
    assert "No process is up that takes tasks." in page()
    make_process(pid=1)
    assert "The 1 process that is up starts it once it has a free slot" in page()
    make_process(pid=2)
    body = page()
    assert "Any of the 2 processes that are up starts it" in body
    assert "does not know its function" in body
    BackgroundTask.objects.update(name=tasks.succeed.name)
    assert "does not know its function" not in page()
    BackgroundTask.objects.update(process=Process.objects.get(pid=1).pk, is_task_function=False)
    assert "its own process starts it once a slot is free" in page()


@pytest.mark.parametrize(
    ("functions", "is_said"),
    [(["shop.tasks.other"], True), (["shop.tasks.other", "shop.tasks.export"], False), (None, False)],
)
def test_a_function_that_no_process_knows_is_the_reason(page, functions, is_said):
    make_process(functions=functions)
    make_silent(functions=["shop.tasks.export"])  # It may be dead.
    make_dead(functions=["shop.tasks.export"])
    make_waiting(name="shop.tasks.export")

    body = page()

    assert ("It waits for longer than 300 s, and no process that is up knows its function." in body) == is_said
    assert ("Start a process whose code has its function, or cancel it." in body) == is_said
    assert ("It waits for longer than 300 s." in body) != is_said


def test_without_a_process_a_missing_function_is_no_reason(page):
    make_waiting()

    assert "knows its function" not in page()


def test_it_shows_a_bounded_number(page, monkeypatch):
    monkeypatch.setattr(stuck, "MAX_SHOWN", 2)
    dead = make_dead()
    for _ in range(5):
        make_task(process=dead.pk)

    body = page()

    assert body.count('name="task"') == 2
    assert "3 more are stuck" in body


def test_it_asks_as_much_of_many_as_of_one(client):
    def count_queries() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert client.get(PAGE).status_code == 200
        return len(queries)

    def make(count: int) -> None:
        for number in range(count):
            make_task(process=make_dead(pid=number).pk)
            make_task(process=make_process(pid=number).pk, stuck_after=1)
            make_waiting()

    make(1)
    count_queries()
    of_one = count_queries()
    make(30)

    assert count_queries() == of_one <= 12


def test_it_refreshes_by_itself(page):
    assert 'data-bgtasks-refresh="5"' in page()


def test_links_go_no_further_than_the_permissions(db):
    process = make_dead()
    make_task(process=process.pk)

    body = log_in().get(PAGE).content.decode()

    assert f"{process.host}:{process.pid}" in body
    assert "/admin/bgtasks/process/" not in body


@pytest.mark.parametrize("place", ["x", [], {"since": 7}, {"since": "9999-12-31T23:59:59Z"}, {"file": {"a": []}}])
def test_a_malformed_place_is_no_error(page, place):
    make_task(process=make_process().pk, stuck_after=5, await_place=place)

    page()


def test_everything_is_escaped(client, page):
    hostile = HOSTILE[:100]
    alive = make_process(host=hostile, server=hostile[:50])
    dead = make_dead(host=hostile, server=hostile[:50])
    place = dict.fromkeys(["file", "line", "function"], hostile) | {"since": timezone.now().isoformat()}
    long = make_task(hostile, process=alive.pk, stuck_after=5, await_place=place)
    lost = make_task(hostile, process=dead.pk)

    bodies = [page()]
    for address, row in ((APPLY, lost), (APPLY, long), (CANCEL, long)):
        client.post(address, {"task": str(row.pk)})
        bodies.append(page())

    for body in bodies:
        assert "<script>alert" not in body
        assert "<img src=x" not in body
        assert "&lt;script&gt;" in body
        assert not re.search(r'(href|src|action)="\s*javascript:', body)


def test_reasons_can_be_translated():
    from bgtasks.reports.stuck import RUNS, Reason

    reason = Reason(RUNS, seconds="5")

    assert reason == "it runs for longer than 5 s"
    with translation.override("de"):
        assert "5" in reason.localize()


# Permissions.


@pytest.mark.parametrize(("address", "permission"), ACTIONS)
def test_without_the_permission_nothing_is_offered_and_nothing_is_done(db, address, permission):
    [other] = {"apply_verdict", "cancel_task"} - {permission}
    row = make_task(process=make_dead().pk)
    before = BackgroundTask.objects.values().get()
    viewer, half = log_in(name="viewer"), log_in(other, name="half")

    body = viewer.get(PAGE).content.decode()
    assert "Its process has ended" in body
    assert 'type="checkbox"' not in body
    assert "bgtasks-button" not in body
    assert address not in half.get(PAGE).content.decode()
    for client in (viewer, half):
        assert client.post(address, {"task": str(row.pk)}).status_code == 403
        assert client.post(address, {"one": str(row.pk)}).status_code == 403

    assert BackgroundTask.objects.values().get() == before
    assert read_log() == []


@pytest.mark.parametrize(("address", "permission"), ACTIONS)
def test_the_permission_without_that_to_look_is_not_enough(db, address, permission):
    row = make_task(process=make_dead().pk)
    client = log_in(permission)
    User.objects.get().user_permissions.remove(Permission.objects.get(codename="view_backgroundtask"))

    assert client.get(PAGE).status_code == 403
    assert client.post(address, {"task": str(row.pk)}).status_code == 403
    assert status_of(row) == "RUNNING"


@pytest.mark.parametrize(("address", "permission"), ACTIONS)
def test_only_a_post_with_the_token_acts(client, address, permission):
    row = make_task(process=make_dead().pk)
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.get())

    assert client.get(address, {"task": str(row.pk)}).status_code == 405
    assert client.post(PAGE, {"task": str(row.pk)}).status_code == 405
    assert strict.post(address, {"task": str(row.pk)}).status_code == 403
    assert "/login/" in Client().post(address, {"task": str(row.pk)})["Location"]
    assert status_of(row) == "RUNNING"

    token = re.search(r'csrfmiddlewaretoken" value="(\w+)"', strict.get(PAGE).content.decode())
    assert token
    assert strict.post(address, {"task": str(row.pk), "csrfmiddlewaretoken": token[1]}).status_code == 302
    assert read_log()


@pytest.mark.parametrize("address", [APPLY, CANCEL])
def test_selections_of_nothing_are_no_error(client, address, monkeypatch):
    assert tick(client, address) == ["No task is selected. Nothing was done."]
    for wrong in ("x", "%00", "\x00", "' OR 1=1", "9" * 500):
        assert tick(client, address, wrong) == ["The selection does not consist of tasks. Nothing was done."]
    assert tick(client, address, uuid4()) == ["1 task was deleted."]
    monkeypatch.setattr(stuck_actions, "MAX_AT_ONCE", 1)
    assert "too many" in tick(client, address, uuid4(), uuid4())[0]


# Verdicts.


def test_the_tasks_of_a_dead_process_are_given_their_verdicts(client):
    dead = make_dead()
    lost = make_task("shop.tasks.lost", process=dead.pk)
    again = make_task("shop.tasks.again", process=dead.pk, on_lost="rerun", max_attempts=3)
    cancelled = make_task("shop.tasks.cancelled", process=dead.pk, cancel_requested_at=timezone.now())
    left = make_task("shop.tasks.left", process=dead.pk)

    messages = tick(client, APPLY, lost, again, cancelled)

    assert messages == [
        "1 task is lost: shop.tasks.lost.",
        "1 task is cancelled, as it was asked for: shop.tasks.cancelled.",
        "1 task is ready to run again, in any process: shop.tasks.again.",
    ]
    assert [status_of(row) for row in (lost, again, cancelled, left)] == ["LOST", "READY", "CANCELLED", "RUNNING"]
    row = BackgroundTask.objects.get(pk=lost.pk)
    assert (row.transitions[-1]["by"], row.transitions[-1]["why"]) == ("user ann", "its uvicorn web-1:13 died")
    assert row.finished_at is not None
    assert sorted(read_log()) == sorted(
        ("backgroundtask", str(row.pk), f"Given its verdict: {status}.")
        for row, status in ((lost, "Lost"), (again, "Ready"), (cancelled, "Cancelled"))
    )
    names = Process.objects.get(pk=dead.pk).died_with
    assert names == dict.fromkeys(["shop.tasks.lost", "shop.tasks.again", "shop.tasks.cancelled"], 1)


def test_the_button_of_a_row_is_about_that_row_alone(client):
    dead = make_dead()
    ticked, own = make_task(process=dead.pk), make_task(process=dead.pk)

    tick(client, APPLY, ticked, one=str(own.pk))

    assert (status_of(ticked), status_of(own)) == ("RUNNING", "LOST")


def test_no_verdict_is_given_where_none_is_due(client):
    alive, dead = make_process(), make_dead()
    running = make_task("a.running", process=alive.pk, stuck_after=1)
    waiting = make_waiting(name="a.waiting")
    finished = [make_task("a.finished", process=dead.pk, status=status) for status in sorted(FINISHED)]
    before = list(BackgroundTask.objects.order_by("pk").values())

    messages = tick(client, APPLY, running, waiting, *finished)

    assert messages == [
        "1 task gets no verdict, since its process lives; it can be cancelled: a.running.",
        "1 task gets no verdict, since it waits for any process: a.waiting.",
        "5 tasks had changed, or finished, already: a.finished.",
    ]
    assert list(BackgroundTask.objects.order_by("pk").values()) == before
    assert read_log() == []


def test_what_changes_at_that_moment_is_said(client, monkeypatch):
    row = make_task(process=make_dead().pk)
    monkeypatch.setattr(stuck_actions, "rescue_by_hand", lambda *args: [])

    assert tick(client, APPLY, row) == ["1 task had changed, or finished, already: shop.tasks.export."]


def test_a_silent_process_is_watched_before_its_tasks_get_their_verdicts(transactional_db, quick):
    client = log_in("apply_verdict", "view_process")
    silent = make_silent()
    row, other = make_task("shop.tasks.export", process=silent.pk), make_task("shop.tasks.other", process=silent.pk)

    [message] = tick(client, APPLY, row)
    during = client.get(PAGE).content.decode()
    wait_for_watches()

    assert message == (
        "The process of 1 task is silent, and is watched for 1.50 s from now on: if it does not beat, it is declared "
        "dead, and the task gets its verdict: shop.tasks.export."
    )
    assert during.count("its process is being watched") == 1
    assert during.count("Apply now") == 1  # Only one verdict was requested.
    assert Process.objects.get(pk=silent.pk).state == "DEAD"
    assert (status_of(row), status_of(other)) == ("LOST", "RUNNING")
    assert read_log() == [("backgroundtask", str(row.pk), "Given its verdict: Lost.")]
    assert not background_watch.is_requested(silent.pk, row.pk)


def test_who_asks_while_it_is_watched_is_heard_too(transactional_db, quick):
    ann, bob = log_in("apply_verdict"), log_in("apply_verdict", name="bob")
    silent = make_silent()
    first, second = make_task(process=silent.pk), make_task(process=silent.pk)

    tick(ann, APPLY, first)
    tick(bob, APPLY, second)
    assert len(find_watches()) == 1
    wait_for_watches()

    by = [BackgroundTask.objects.get(pk=row.pk).transitions[-1]["by"] for row in (first, second)]
    assert by == ["user ann", "user bob"]


def test_who_asks_while_verdicts_are_given_is_heard_too(transactional_db, quick):
    silent = make_silent()
    rows = [make_task(process=silent.pk) for _ in range(3)]
    given = []

    def wish() -> None:
        row = rows[len(given)]
        background_watch.request("default", get_settings(), silent.pk, VerdictRequest("user ann", {row.pk}, note))

    def note(verdicts: list[Verdict]) -> None:
        given.extend(verdict.id for verdict in verdicts)
        if len(given) == 1:  # The second wish comes during the watch, the third after it.
            wish()

    wish()
    wait_for_watches()
    assert given == [row.pk for row in rows[:2]]
    wish()
    wait_for_watches()

    assert given == [row.pk for row in rows]
    assert [status_of(row) for row in rows] == ["LOST"] * 3
    assert not any(background_watch.is_requested(silent.pk, row.pk) for row in rows)


def test_a_process_that_beats_after_all_keeps_its_tasks(transactional_db, quick):
    client = log_in("apply_verdict")
    silent = make_silent()
    row = make_task(process=silent.pk)

    tick(client, APPLY, row)
    while watches := find_watches():
        Process.objects.filter(pk=silent.pk).update(beat=F("beat") + 1)
        watches[0].join(0.02)

    assert Process.objects.get(pk=silent.pk).state == "ALIVE"
    assert status_of(row) == "RUNNING"
    assert read_log() == []


def test_a_process_without_a_row_is_watched_too(transactional_db, quick):
    client = log_in("apply_verdict")
    row = make_task(process=uuid4())

    tick(client, APPLY, row)
    wait_for_watches()

    assert status_of(row) == "LOST"


def test_a_watch_that_fails_does_nothing_and_can_be_asked_for_again(transactional_db, quick, monkeypatch, caplog):
    from bgtasks.operations import rescue_by_hand

    client = log_in("apply_verdict")
    silent = make_silent()
    row = make_task(process=silent.pk)
    with monkeypatch.context() as patch:
        patch.setattr(rescue_by_hand, "Look", lambda *args: 1 / 0)
        tick(client, APPLY, row)
        wait_for_watches()
    assert (status_of(row), Process.objects.get(pk=silent.pk).state) == ("RUNNING", "ALIVE")
    assert any("could not be watched" in record.getMessage() for record in caplog.records)

    tick(client, APPLY, row)
    wait_for_watches()

    assert status_of(row) == "LOST"


# Cancelling.


def test_a_selection_is_cancelled(client):
    waiting = make_waiting(name="a.waiting")
    running = make_task("a.running", process=make_process().pk, stuck_after=1)
    lost = make_task("a.lost", process=make_dead().pk)
    finished = make_task("a.finished", status=Status.FAILED)

    messages = tick(client, CANCEL, waiting, running, lost, finished)

    assert messages == [
        "1 task is cancelled: a.waiting.",
        "1 task is asked to stop, and its process acts within a second: a.running.",
        "1 task had changed, or finished, already: a.finished.",
        "1 task is marked to be cancelled, which its verdict does, since its process is gone: a.lost.",
    ]
    assert status_of(waiting) == "CANCELLED"
    for row in (running, lost):
        assert BackgroundTask.objects.get(pk=row.pk).cancel_requested_at is not None
    assert sorted(read_log()) == sorted(
        ("backgroundtask", str(row.pk), text)
        for row, text in ((waiting, "Cancelled."), (running, "Asked to stop."), (lost, "Asked to stop."))
    )
    assert tick(client, APPLY, lost) == ["1 task is cancelled, as it was asked for: a.lost."]


def test_many_names_are_cut(client):
    rows = [make_waiting(name=f"a.number_{number}") for number in range(9)]

    [message] = tick(client, CANCEL, *rows)

    assert message == "9 tasks are cancelled: a.number_0, a.number_1, a.number_2, a.number_3, a.number_4, …."


async def test_a_task_that_runs_for_too_long_is_cancelled(runtime: Runtime) -> None:
    from asgiref.sync import sync_to_async

    handle = bgtasks.fire(tasks.sleep.using(stuck_after=0.01), 3600)
    await wait_until(lambda: BackgroundTask.objects.filter(pk=handle.id, status="RUNNING").aexists())
    client = await sync_to_async(log_in)("cancel_task")
    assert str(handle.id) in (await sync_to_async(client.get)(PAGE)).content.decode()

    await sync_to_async(tick)(client, CANCEL, handle.id)

    with pytest.raises(bgtasks.TaskCancelled):
        await handle.wait(timeout=20)
    assert (await read_row(handle)).status == "CANCELLED"
