"""The page of one task: its course, its neighbours, its traceback, and the permissions for each."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from bgtasks.admin.pictures.strip import COUNT
from bgtasks.admin.tasks import neighbours
from bgtasks.models import BackgroundTask
from bgtasks.status import FINISHED, Status
from bgtasks.uuid7 import lowest_uuid7
from tests.staff import log_in

pytestmark = pytest.mark.django_db

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7|add:7 }}{% now %} javascript:alert(3)"
TRACEBACK = (
    'Traceback (most recent call last):\n  File "/srv/shop/tasks.py", line 31, in charge\n    call()\n'
    '  File "/v/lib/python3.11/site-packages/httpx/_client.py", line 3, in post\n    send()\n'
    '  File "/usr/lib/python3.11/smtplib.py", line 7, in call\n    raise Unavailable\n'
    "shop.errors.Unavailable: no\n"
)


@pytest.fixture
def client() -> Client:
    return log_in("view_task_args", name="user")


def make_task(name: str = "shop.tasks.send", status: str = Status.SUCCESSFUL, **more: Any) -> BackgroundTask:
    now = timezone.now()
    started = {} if status == Status.READY else {"started_at": now - timedelta(seconds=8), "attempt": 1}
    ended = {"finished_at": now - timedelta(seconds=5)} if status in FINISHED else {}
    values = {"created_at": now - timedelta(seconds=9), **started, **ended}
    return BackgroundTask.objects.create(name=name, status=status, **(values | more))


def page_of(row: BackgroundTask) -> str:
    return reverse("admin:bgtasks_backgroundtask_change", args=[row.pk])


def show(client: Client, row: BackgroundTask) -> str:
    response = client.get(page_of(row))
    assert response.status_code == 200
    return response.content.decode().replace("<wbr>", "")


def entry(status: str, second: float, **more: Any) -> dict[str, Any]:
    return {"status": status, "at": f"2026-01-02T03:{int(second) // 60:02}:{second % 60:06.3f}+00:00", **more}


def boxes_in(body: str) -> list[str]:
    """Return the text of each box in order, with the label of the arrow to it."""
    states = body.partition('<ol class="bgtasks-states"')[2].partition(">")[2].partition("</ol>")[0]
    items = re.findall(r"<li .*?</li>", states, re.DOTALL)
    return [" ".join(re.sub(r"<[^>]*>", " ", item).split()) for item in items]


# Its course.


def test_the_course_is_drawn_as_boxes_with_the_times_between_them(client):
    row = make_task(
        status=Status.SUCCESSFUL,
        transitions=[
            entry("READY", 0, attempt=0, why="fired"),
            entry("RUNNING", 0.004, attempt=1, why="claimed"),
            entry("READY", 1.2, attempt=1, why="raised ValueError: no; again in 2 s, attempt 2 of 3"),
            entry("RUNNING", 3.2, attempt=2),
            entry("SUCCESSFUL", 3.7, attempt=2, why="returned"),
        ],
    )
    BackgroundTask.objects.update(created_at="2026-01-02T03:00:00Z")

    assert boxes_in(show(client, row)) == [
        "Ready waited 4 ms",
        "claimed Running attempt 1 ran 1.20 s",
        "raised ValueError Ready again after 2 s",
        "Running attempt 2 ran 500 ms",
        "returned Successful attempt 2 after 3.70 s in all",
    ]


def test_a_hundred_attempts_stay_readable(client):
    history = [entry("READY", 0)]
    for number in range(100):
        history += [entry("RUNNING", 2 * number + 1, attempt=number + 1), entry("READY", 2 * number + 2)]
    row = make_task(status=Status.FAILED, transitions=[*history[:-1], entry("FAILED", 300, attempt=100)])

    body = show(client, row)

    drawn = boxes_in(body)
    assert len(drawn) == 13
    assert re.fullmatch(r"189 steps more \d+ attempts, \d min \d+ s", drawn[5])
    assert drawn[-1].startswith("Failed attempt 100")
    assert '<details class="bgtasks-more-steps" data-bgtasks-details="steps">' in body
    assert "101 steps before these are not shown." in body


def test_a_short_course_has_all_its_steps_below(client):
    body = show(client, make_task(transitions=[entry("RUNNING", 1), entry("SUCCESSFUL", 2)]))

    assert "bgtasks-more-steps" not in body
    assert body.count('<span class="bgtasks-step">') == 2


def test_a_live_task_grows_and_says_when_it_is_due(client):
    now = timezone.now()
    at = (now - timedelta(seconds=3)).isoformat()
    running = make_task(status=Status.RUNNING, transitions=[{"status": "RUNNING", "at": at, "attempt": 1}])
    due = now + timedelta(minutes=5, seconds=9)
    waiting = make_task(status=Status.READY, transitions=[{"status": "READY", "at": at}], run_after=due)

    body = show(client, running)
    assert re.fullmatch(r"Running attempt 1 runs, [\d.]+ s so far", boxes_in(body)[0])
    assert "data-bgtasks-moving" in body
    assert re.search(r"waits, [\d.]+ s so far, due in [45] min", boxes_in(show(client, waiting))[0])
    assert "data-bgtasks-moving" not in show(client, make_task())


# Permissions.


def test_arguments_are_for_those_with_the_permission():
    row = make_task(args=["first-secret"], kwargs={"to": "second-secret"}, result="the result", checkpoint="the place")
    viewer, other = log_in(), log_in("view_task_args", "fire_task", name="bob")

    body = show(viewer, row)

    assert "first-secret" not in body
    assert "second-secret" not in body
    assert "<code>bgtasks.view_task_args</code>" in body
    for shown in ("the result", "the place"):
        assert shown in body
    body = show(other, row)
    assert "first-secret" in body
    assert "second-secret" in body
    assert "bgtasks.view_task_args" not in body


def test_the_request_that_fired_it(client):
    row = make_task(fired_by={"method": "POST", "path": "/pay", "user_id": 7, "request_id": "abc"})

    body = show(client, row)

    for shown in ("POST /pay", "user 7", "abc"):
        assert f"<dd>{shown}</dd>" in body
    assert 'href="/admin/auth/user/7/change/"' in show(log_in("view_user"), row)
    assert "Fired by" not in show(client, make_task())


def test_progress_is_a_bar(client):
    row = make_task(status=Status.RUNNING, progress={"done": 30, "total": 120, "note": "rows", "at": "x"})

    body = show(client, row)

    assert "25 %: 30 of 120" in body
    assert '<rect class="bgtasks-progress-done" x="0" y="0" width="250.0"' in body
    assert "25 %" not in show(client, make_task(progress={"done": "30"}))


# Its traceback.


def test_frames_of_the_project_stand_open_and_those_of_libraries_are_folded(client):
    body = show(client, make_task(status=Status.FAILED, error_type="shop.errors.Unavailable", traceback=TRACEBACK))

    library = body.partition('<details class="bgtasks-library"')[2].partition("</details>")[0]
    assert not library.startswith(" open")
    assert "2 frames of libraries: smtplib, httpx" in library
    assert "<b>smtplib.py:7</b>" in library
    assert "<b>tasks.py:31</b>" not in library
    assert "<b>tasks.py:31</b>" in body
    assert 'data-bgtasks-copy="bgtasks-traceback"' in body
    copied = body.partition('id="bgtasks-traceback">')[2].partition("</pre>")[0]
    assert copied.replace("&quot;", '"') == TRACEBACK


def test_frames_of_libraries_alone_stand_open(client):
    body = show(
        client, make_task(status=Status.FAILED, traceback=TRACEBACK.replace("/srv/shop", "/usr/lib/python3.11"))
    )

    assert '<details class="bgtasks-library" open' in body


# Its neighbours.


def strip_in(body: str) -> list[str]:
    strip = body.partition('<svg class="bgtasks-strip"')[2].partition("</svg>")[0]
    return re.findall(r"/backgroundtask/([0-9a-f-]{36})/change/", strip)


def test_the_strip_shows_the_last_tasks_of_the_function_and_marks_this_one(client):
    rows = [make_task() for _ in range(COUNT + 3)]
    make_task("shop.tasks.other")

    body = show(client, rows[-1])

    assert strip_in(body) == [str(row.pk) for row in rows[-COUNT:]]
    assert body.count('aria-current="true"') == 1
    assert f"The last {COUNT} tasks of this function: {COUNT} Successful" in body
    body = show(client, rows[0])
    assert strip_in(body) == [str(row.pk) for row in [rows[0], *rows[-COUNT + 1 :]]]
    assert "older than the others" in body


def same_key_in(body: str) -> list[str]:
    part = body.partition('bgtasks-same-key">')[2].partition("</ol>")[0]
    return [link or this for link, this in re.findall(r"/([0-9a-f-]{36})/change/|(this task)", part)]


def test_earlier_and_later_tasks_with_the_same_key(client):
    rows = [make_task(key="order:7") for _ in range(4)]
    other = make_task("shop.tasks.other", Status.READY, key="order:7", live_key="order:7")
    make_task(key="order:8")

    body = show(client, rows[1])

    later = [str(row.pk) for row in (other, rows[3], rows[2])]
    assert same_key_in(body) == [*later, "this task", str(rows[0].pk)]
    assert "shop.tasks.other" in body
    assert "?q=order%3A7" in body
    assert "With the same key" not in show(client, make_task())


def test_only_so_many_tasks_are_searched_for_the_key(client, monkeypatch):
    monkeypatch.setattr(neighbours, "NEAR", 2)
    for key in ("k", "", "", ""):
        make_task(key=key)
    row = make_task(key="k")
    for key in ("", "", "k"):
        make_task(key=key)
    live = make_task(status=Status.READY, key="k", live_key="k")

    assert same_key_in(show(client, row)) == [str(live.pk), "this task"]
    BackgroundTask.objects.filter(pk__gt=row.pk).delete()
    assert "None among the 2 tasks fired before it" in show(client, row)


def test_a_live_task_that_was_fired_earlier_is_found(client, monkeypatch):
    monkeypatch.setattr(neighbours, "NEAR", 1)
    live = make_task(status=Status.READY, key="k", live_key="k")
    make_task()
    row = make_task(key="k")

    assert same_key_in(show(client, row)) == ["this task", str(live.pk)]


def test_the_page_asks_as_much_of_many_rows_as_of_one(client):
    def count(row: BackgroundTask) -> int:
        with CaptureQueriesContext(connection) as queries:
            show(client, row)
        return len(queries)

    values: dict[str, Any] = {"key": "k", "transitions": [entry("READY", 1), entry("RUNNING", 2)], "args": [1]}
    show(client, make_task())  # Lookups that Django caches.
    few = count(make_task(**values))
    for _ in range(120):
        make_task(key="k")
    many = count(make_task(**values | {"transitions": [entry("RUNNING", second) for second in range(900)]}))

    assert many == few <= 13


# Values are shown as text only.


def test_everything_is_escaped(client):
    hostile = HOSTILE[:100]
    frames = f'Traceback (most recent call last):\n  File "/v/site-packages/{hostile}/x.py", line 1, in {hostile}\n'
    row = make_task(
        hostile,
        Status.RUNNING,
        args=[hostile],
        kwargs={hostile: hostile},
        key=hostile,
        progress={"done": 1, "total": 3, "note": hostile, "at": hostile},
        error_type=hostile,
        error_message=hostile,
        traceback=f"{frames}    {hostile}\n{hostile}\n",
        transitions=[dict.fromkeys(["status", "at", "attempt", "by", "why"], hostile)] * 20,
        fired_by=dict.fromkeys(["method", "path", "request_id", "user_id"], hostile),
        result=hostile,
    )
    make_task(hostile, "<b>x</b>", key=hostile)

    for one in (client, log_in("view_user", "view_task_args", "fire_task")):
        body = show(one, row)
        assert "<script>alert" not in body
        assert "<img src=x" not in body
        assert "<b>x</b>" not in body
        assert not re.search(r'(href|src|action)="\s*javascript:', body)
        content = body.split('<div id="content-main"')[1].split("<!-- END Content -->")[0]
        assert "<script" not in content
        assert " style=" not in content


@pytest.mark.parametrize("user_id", [{}, [], "7/../../", 10**30, -1, True], ids=repr)
def test_users_of_any_kind_are_no_error(user_id):
    row = make_task(fired_by={"user_id": user_id})

    assert "user " in show(log_in("view_user"), row)


def test_a_task_of_the_first_moment_is_no_error(client):
    row = make_task(id=lowest_uuid7(0), key="k")

    assert "With the same key" in show(client, row)
