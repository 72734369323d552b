"""The overview and the live page: content, permissions, cost."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone, translation

from bgtasks.admin import live_tasks as live_page
from bgtasks.admin.shared import cache
from bgtasks.models import BackgroundTask, Drain, Process, Rollup
from bgtasks.status import Status
from bgtasks.uuid7 import uuid7
from tests.staff import log_in

pytestmark = pytest.mark.django_db

OVERVIEW, LIVE = "/admin/bgtasks/overview/", "/admin/bgtasks/livetask/"
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> javascript:alert(3)"


@pytest.fixture
def root() -> Client:
    client = Client()
    client.force_login(User.objects.create(username="root", is_staff=True, is_superuser=True))
    return client


def make_process(**more: Any) -> Process:
    now = timezone.now()
    values = {"host": "web-1", "pid": 4312, "server": "uvicorn", "started_at": now, "beat_at": now}
    return Process.objects.create(**({**values, "has_lifespan": True} | more))


def make_task(status: str = "RUNNING", name: str = "shop.tasks.send", **more: Any) -> BackgroundTask:
    now = timezone.now()
    values: dict[str, Any] = {"created_at": now, "attempt": 1}
    if status != "READY":
        values["started_at"] = now - timedelta(seconds=3)
    if status not in ("READY", "RUNNING"):
        values["finished_at"] = now
    return BackgroundTask.objects.create(name=name, status=status, **(values | more))


def make_rollup(name: str = "shop.tasks.send", resolution: int = 7200, **statuses: int) -> Rollup:
    seconds = timezone.now().timestamp() // resolution * resolution
    starts_at = timezone.datetime.fromtimestamp(seconds, timezone.get_default_timezone())
    counts = {"statuses": statuses, "took": {"40": sum(statuses.values())}, "waited": {"3": 1}}
    return Rollup.objects.create(
        process=uuid4(), resolution=resolution, starts_at=starts_at, tasks={name: counts}, lag=0.004
    )


def tile(body: str, name: str) -> str:
    found = re.search(rf'bgtasks-tile-{name}.*?bgtasks-tile-value">(.*?)</span>', body, re.S)
    assert found
    return found[1].strip()


def test_an_empty_database_has_an_overview(root: Client) -> None:
    body = root.get(OVERVIEW).content.decode()

    assert tile(body, "running") == tile(body, "successful") == "0"
    assert "Nothing ended in this time." in body
    assert "No process is up." in body


@pytest.mark.parametrize("language", ["en", "de"])
def test_the_pages_of_the_app_follow_their_use(root: Client, language: str) -> None:
    with translation.override(language):
        body = root.get("/admin/bgtasks/", headers={"accept-language": language}).content.decode()

    pages = list(dict.fromkeys(re.findall(r'href="/admin/bgtasks/(\w+)/"', body)))
    assert pages[:4] == ["overview", "livetask", "failedtask", "stucktask"]
    assert pages[4:8] == ["backgroundtask", "taskfunction", "process", "drain"]


@pytest.mark.parametrize("name", ["overview", "livetask", "failedtask", "stucktask", "backgroundtask", "process"])
def test_no_title_begins_with_the_spaces_by_which_the_pages_are_sorted(root: Client, name: str) -> None:
    body = root.get(f"/admin/bgtasks/{name}/").content.decode()

    title = re.search(r"<title>(.*?) \|", body)
    assert title is not None
    assert title[1] == title[1].strip() != ""


def test_what_waits_can_be_paused_from_the_list_of_pauses(root: Client) -> None:
    body = root.get("/admin/bgtasks/pause/").content.decode()

    assert "Nothing is paused." in body
    assert re.search(r'<a href="/admin/bgtasks/pause/add/[^"]*" class="addlink"', body)


def test_tiles_and_pictures(root: Client) -> None:
    process = make_process()
    make_process(state="DEAD", stopped_at=timezone.now(), died_with={"shop.tasks.send": 3}, pid=7)
    running = make_task(process=process.pk, stuck_after=1.0)
    make_task("READY")
    for resolution in (60, 1800, 7200):
        make_rollup(resolution=resolution, SUCCESSFUL=95, FAILED=4, LOST=1)
    Drain.objects.create(
        process=process.pk, asked_by="lifespan", started_at=timezone.now(), seconds=2.0, running_at_start=5,
        finished_count=3, cancelled_count=2, left_count=0, cut_short_after=1.0, course=[[0.0, 5], [1.0, 2], [2.0, 0]],
    )  # fmt: skip

    body = root.get(OVERVIEW).content.decode()

    assert [tile(body, name) for name in ("running", "waiting", "successful", "failed")] == ["1", "1", "95", "4"]
    assert "4 % of the tasks that ran" in body
    assert "0 interrupted, 1 lost" in body
    assert "1 died in 24 h" in body
    assert f"{running.pk}/change/" in body
    assert "bgtasks-lane-late" in body  # Past its stuck_after of a second.
    assert "died" in body
    assert "with 3 tasks" in body
    assert "bgtasks-drain-cut" in body
    assert re.search(r'href="[^"]*finished=\d+-\d+"', body)
    assert "p95 <b>" in body


@pytest.mark.parametrize("span", ["hour", "day", "week", "", "year", "<script>"])
def test_each_span(root: Client, span: str) -> None:
    make_rollup(resolution=60, SUCCESSFUL=1)
    body = root.get(OVERVIEW, {"span": span}).content.decode()

    columns = len(re.findall('class="bgtasks-column"', body))
    assert columns == {"day": 48, "week": 84}.get(span, 60)


def test_functions_that_no_process_knows_are_named(root: Client) -> None:
    make_process(functions=["shop.tasks.send"])
    make_task("READY", attempt=0)
    body = root.get(OVERVIEW).content.decode()
    assert "No process knows a function" not in body

    for name in (HOSTILE[:60], "shop.old.send", "shop.old.send"):
        make_task("READY", name, attempt=0)
    make_task("READY", "later", attempt=0, run_after=timezone.now() + timedelta(hours=1))
    body = root.get(OVERVIEW).content.decode()

    assert "3 tasks wait for a process that knows their functions: shop.old.send, " in body
    assert "<script>alert" not in body

    make_process(functions=["shop.old.send", HOSTILE[:60]])
    assert "No process knows a function" not in root.get(OVERVIEW).content.decode()


def test_banners(root: Client) -> None:
    now = timezone.now()
    make_process(pid=1, has_lifespan=False)
    make_process(pid=2, blocked_since=now - timedelta(hours=9), blocked_by="time.sleep")
    make_process(pid=3, beat_at=now - timedelta(minutes=5))
    dead = make_process(pid=4, state="DEAD", stopped_at=now)
    make_task(process=dead.pk)

    body = root.get(OVERVIEW).content.decode()

    assert "No drain is active" in body
    assert "An event loop is blocked" in body
    assert "web-1:2, for 9 h" in body
    assert "A process is silent" in body
    assert "A process died with running tasks" in body
    assert "1 task is recorded as running" in body


def test_the_balance_is_asked_for_apart(root: Client) -> None:
    """The page counts all rows."""
    with CaptureQueriesContext(
        connection,
    ) as asked:
        body = root.get(OVERVIEW).content.decode()
    assert not any("COUNT" in each["sql"] and "origin" in each["sql"] for each in asked)
    assert tile(body, "unaccounted") == "…"
    make_process(fired_count=2)

    tile_body = root.get(f"{OVERVIEW}unaccounted/").content.decode()

    assert ">2</span>" in tile_body
    assert "bgtasks-alarm" in tile_body
    assert ">2<" in root.get(OVERVIEW).content.decode()
    assert log_in().get(f"{OVERVIEW}unaccounted/").status_code == 403


@pytest.mark.parametrize("address", [OVERVIEW, LIVE])
def test_who_may_see_them(address: str) -> None:
    viewer, other = log_in(), log_in("view_process", name="bob", sees_tasks=False)
    assert viewer.get(address).status_code == 200
    assert other.get(address).status_code == 403
    assert viewer.post(address).status_code == 405
    assert Client().get(address).status_code == 302


@pytest.mark.parametrize("address", [OVERVIEW, LIVE])
@pytest.mark.parametrize("language", ["en", "de"])
def test_hostile_texts_and_other_languages(root: Client, address: str, language: str) -> None:
    process = make_process(host=HOSTILE, server=HOSTILE[:50], release=HOSTILE)
    for status in ("RUNNING", "READY", "FAILED"):
        make_task(
            status, f"{HOSTILE}{status}", key=HOSTILE, process=process.pk if status != "READY" else None,
            progress={"done": 1, "total": 3, "note": HOSTILE},
            await_place={"file": HOSTILE, "line": HOSTILE, "function": HOSTILE, "since": timezone.now().isoformat()},
            fired_by={"method": HOSTILE, "path": HOSTILE, "user_id": HOSTILE},
        )  # fmt: skip
    for resolution in (60, 1800, 7200):
        make_rollup(HOSTILE, resolution, SUCCESSFUL=1, FAILED=1)

    with translation.override(language):
        body = root.get(address, headers={"accept-language": language}).content.decode()

    assert "<img" not in body
    assert "<script>alert" not in body
    assert 'href="javascript:' not in body
    assert not re.search(r'(?:x|y|width|height|x1|x2)="\d+,\d', body)  # A decimal comma would break the pictures.


@pytest.mark.parametrize(
    "what",
    [
        {"progress": value}
        for value in (
            0,
            "x",
            [],
            {"done": "x"},
            {"done": 5, "total": 0},
            {"done": 1e300, "total": 1e-300},
            {"done": True},
        )
    ]
    + [{"await_place": value} for value in (0, [], {"since": "x"}, {"since": None}, {"since": "9999-12-31T23:59:59Z"})]
    + [{"fired_by": value} for value in (0, "x", [], {"path": {}})],
)
def test_whatever_a_row_holds(root: Client, what: dict[str, Any]) -> None:
    make_task(**what)

    assert root.get(LIVE).status_code == 200


def test_the_live_page_shows_what_runs(root: Client) -> None:
    make_rollup(SUCCESSFUL=20)
    process = make_process()
    task = make_task(
        process=process.pk, key="order 7", progress={"done": 3, "total": 4, "note": "page 3"},
        await_place={
            "file": "shop/tasks.py", "line": 7, "function": "send", "since": timezone.now().isoformat(),
        },
        fired_by={"method": "POST", "path": "/orders", "user_id": 5},
    )  # fmt: skip
    make_task("READY", run_after=timezone.now() + timedelta(minutes=5))

    body = root.get(LIVE).content.decode()

    assert f'data-bgtasks-task="{task.pk}"' in body
    for text in ("order 7", "3 of 4", "page 3", "awaits in send", "shop/tasks.py:7", "POST /orders · user 5", "p95",
                 "of 20 tasks in 7 days", "web-1:4312", "due in"):  # fmt: skip
        assert text in body


@pytest.mark.parametrize("address", [OVERVIEW, LIVE])
def test_the_number_of_queries_does_not_grow(root: Client, address: str) -> None:
    def count() -> int:
        cache.forget_all()
        with CaptureQueriesContext(connection) as asked:
            assert root.get(address).status_code == 200
        return len(asked)

    root.get(address)
    make_task(process=make_process().pk)
    few = count()
    for number in range(30):
        process = make_process(pid=number)
        make_task(name=f"shop.tasks.t{number}", process=process.pk)
        make_task("SUCCESSFUL", name=f"shop.tasks.t{number}", process=process.pk)
        make_rollup(f"shop.tasks.t{number}", 60, SUCCESSFUL=1, FAILED=1)

    assert count() == few
    assert few <= 25


# Actions.


def test_cancelling_what_waits(root: Client) -> None:
    task, other = make_task("READY", attempt=0), make_task("READY", attempt=0)

    body = root.get(LIVE).content.decode()
    assert f'name="task" value="{task.pk}"' in body
    assert f'value="cancel:{task.pk}"' in body
    assert 'name="task"' not in log_in("view_backgroundtask").get(LIVE).content.decode()

    response = root.post(f"{LIVE}act/", {"do": "cancel", "task": [str(task.pk)]}, follow=True)

    assert "1 task is cancelled." in response.content.decode()
    task.refresh_from_db()
    other.refresh_from_db()
    assert (task.status, other.status) == ("CANCELLED", "READY")
    assert LogEntry.objects.get().object_id == str(task.pk)


def test_cancelling_and_firing_again(root: Client) -> None:
    task = make_task("READY", attempt=0, args=[7])

    response = root.post(f"{LIVE}act/", {"do": f"again:{task.pk}"}, follow=True)

    assert "1 task is fired again," in response.content.decode()
    new = BackgroundTask.objects.get(fired_again_from=task.pk)
    assert (new.args, new.status) == ([7], "READY")


def test_what_does_not_end_is_not_fired_again(root: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_page, "PATIENCE", 0.1)
    task = make_task(process=make_process().pk)

    response = root.post(f"{LIVE}act/", {"do": f"again:{task.pk}"}, follow=True)

    body = response.content.decode()
    assert "1 task is asked to stop" in body
    assert "is fired again" not in body
    assert BackgroundTask.objects.count() == 1


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"do": "cancel"},
        {"do": "delete", "task": [str(UUID(int=1))]},
        {"do": "cancel:no-id"},
        {"do": "cancel:" + "9" * 5000},
        {"do": f"cancel:{UUID(int=1)}"},
        {"do": "again", "task": ["\x00", "é"]},
    ],
)
def test_nonsense_does_nothing(root: Client, sent: dict[str, Any]) -> None:
    task = make_task("READY", attempt=0)

    response = root.post(f"{LIVE}act/", sent, follow=True)

    assert "Nothing was done." in response.content.decode()
    task.refresh_from_db()
    assert task.status == "READY"


@pytest.mark.parametrize(
    ("permissions", "action", "status"),
    [
        (["view_backgroundtask"], "cancel", 403),
        (["cancel_task"], "cancel", 403),
        (["view_backgroundtask", "cancel_task"], "cancel", 302),
        (["view_backgroundtask", "cancel_task"], "again", 403),
        (["view_backgroundtask", "fire_task"], "again", 403),
        (["view_backgroundtask", "cancel_task", "fire_task"], "again", 302),
    ],
)
def test_each_needs_its_permission(permissions: list[str], action: str, status: int) -> None:
    task = make_task("READY", attempt=0)

    response = log_in(*permissions, sees_tasks=False).post(f"{LIVE}act/", {"do": f"{action}:{task.pk}"})

    assert response.status_code == status
    task.refresh_from_db()
    assert (task.status == Status.CANCELLED) == (status == 302)


def test_without_a_token_nothing_is_done() -> None:
    task = make_task("READY", attempt=0)
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create(username="root", is_staff=True, is_superuser=True))

    assert client.post(f"{LIVE}act/", {"do": f"cancel:{task.pk}"}).status_code == 403
    assert client.get(f"{LIVE}act/").status_code == 405
    task.refresh_from_db()
    assert task.status == "READY"


def test_more_than_is_shown(root: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_page, "MAX_SHOWN", 3)
    process = make_process()
    ids = [make_task(process=process.pk, id=uuid7()).pk for _ in range(5)]

    body = root.get(LIVE).content.decode()

    assert [UUID(found) for found in re.findall(r'data-bgtasks-task="([^"]+)"', body)] == ids[:3]
    assert '<span class="bgtasks-count">5</span>' in body
    assert "?show=running" in body
