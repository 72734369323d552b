"""The pages of processes and drains, and the request to drain."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote_plus
from uuid import UUID, uuid4

import pytest
from asgiref.sync import sync_to_async
from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.contrib.messages import get_messages
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

import bgtasks
from bgtasks.admin.processes import page as process_page
from bgtasks.models import BackgroundTask, Drain, Process, Rollup
from bgtasks.models.histogram import bin_of
from bgtasks.status import Status
from tests.app import tasks
from tests.conftest import Runtime, wait_until
from tests.staff import log_in

PROCESSES, DRAINS = "/admin/bgtasks/process/", "/admin/bgtasks/drain/"
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7|add:7 }} javascript:alert(3)"


def make_process(**more: Any) -> Process:
    now = timezone.now()
    values = {"host": "web-1", "pid": 4312, "server": "uvicorn", "has_lifespan": True}
    moments = {"started_at": now - timedelta(hours=2), "beat_at": now}
    return Process.objects.create(**(values | moments | more))


def make_task(process: Process, name: str = "shop.tasks.export", **more: Any) -> BackgroundTask:
    now = timezone.now()
    values = {
        "status": Status.RUNNING,
        "process": process.pk,
        "created_at": now - timedelta(minutes=3, seconds=2),
        "started_at": now - timedelta(minutes=3),
        "attempt": 1,
    }
    return BackgroundTask.objects.create(name=name, **(values | more))


def make_drain(process: UUID, **more: Any) -> Drain:
    values: dict[str, Any] = {
        "asked_by": "lifespan",
        "started_at": timezone.now(),
        "seconds": 22.5,
        "running_at_start": 9,
        "finished_count": 4,
        "cancelled_count": 3,
        "left_count": 2,
        "names": {"shop.tasks.export": 5},
        "course": [[0.0, 9], [3.0, 7], [20.0, 5], [22.5, 2]],
        "cut_short_after": 20.0,
    }
    return Drain.objects.create(process=process, **(values | more))


def make_rollup(
    process: UUID, starts_at: datetime, resolution: Rollup.Resolution, names: dict[str, Any], lag: float | None = None
) -> None:
    """Write a rollup of a process; `names` has (seconds, count) by task name."""
    counts = {
        name: {"statuses": {"SUCCESSFUL": count}, "took": {str(bin_of(seconds)): count}, "waited": {}}
        for name, (seconds, count) in names.items()
    }
    Rollup.objects.create(process=process, resolution=resolution, starts_at=starts_at, tasks=counts, lag=lag)


def minutes_ago(count: int) -> datetime:
    now = timezone.now()
    return now.replace(second=0, microsecond=0) - timedelta(minutes=count)


def ends_of(body: str) -> list[str]:
    """Return the last two points of each drawn area."""
    return [" ".join(points.split()[-2:]) for points in re.findall(r'<polygon [^>]*points="([^"]*)"', body)]


def measure(**names: tuple[float, int]) -> None:
    """Write a rollup of the last hours."""
    hours = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
    named = {name.replace("__", "."): value for name, value in names.items()}
    make_rollup(uuid4(), hours, Rollup.Resolution.TWO_HOURS, named)


VIEWS = ("view_process", "view_drain")


@pytest.fixture
def client(db: None) -> Client:
    return log_in(*VIEWS, "drain_process")


@pytest.fixture
def page(client: Client) -> Callable[[str], str]:
    def fetch(address: str) -> str:
        answer = client.get(address)
        assert answer.status_code == 200, answer.status_code
        return re.sub(r"\s+", " ", answer.content.decode().replace("<wbr>", ""))

    return fetch


def page_of(row: Any) -> str:
    return f"/admin/bgtasks/{row._meta.model_name}/{row.pk}/change/"


def count_queries(client: Client, address: str) -> int:
    client.get(address)  # Lookups that Django caches.
    with CaptureQueriesContext(connection) as queries:
        assert client.get(address).status_code == 200
    return len(queries)


def said(client: Client) -> list[str]:
    return [str(message) for message in get_messages(client.get(PROCESSES).wsgi_request)]


# The page of a process.


def test_its_running_tasks_are_listed_and_drawn(page):
    process, other = make_process(), make_process(pid=7)
    row = make_task(process)
    now = timezone.now()
    ended = make_task(process, "shop.tasks.send", status=Status.FAILED, finished_at=now - timedelta(seconds=5))
    make_task(other, "shop.tasks.elsewhere")

    body = page(page_of(process))

    assert f'<a href="{page_of(row)}">export</a>' in body
    assert "3 min" in body
    assert f'<a href="{page_of(ended)}" aria-label="shop.tasks.send' in body
    assert 'aria-label="1 running, 1 ended in the last minute"' in body
    assert "elsewhere" not in body


def test_the_first_fifty_are_listed(page, monkeypatch):
    process = make_process()
    rows = [make_task(process) for _ in range(process_page.MAX_LISTED + 5)]

    body = page(page_of(process))

    table = body.partition("bgtasks-running")[2].partition("</table>")[0]
    assert table.count("<a href") == 50
    assert str(rows[0].pk) in table
    assert str(rows[-1].pk) not in table
    assert "These are the 50 that have run for longest." in body


def test_users_who_may_not_see_tasks_see_none_here(db):
    process = make_process()
    make_task(process)

    body = log_in("view_process", sees_tasks=False).get(page_of(process)).content.decode()

    assert "shop.tasks" not in body
    assert "backgroundtask/" not in body.partition('id="content-main"')[2]


def test_its_last_hour_is_drawn(page):
    process = make_process()
    for age, count, lag in ((30, 4, 0.25), (2, 8, 0.5)):
        make_rollup(process.pk, minutes_ago(age), Rollup.Resolution.MINUTE, {"a": (0.1, count)}, lag)
    make_rollup(uuid4(), minutes_ago(2), Rollup.Resolution.MINUTE, {"a": (0.1, 500)}, 9.0)

    body = page(page_of(process))

    assert 'aria-label="Finished per minute: 12 in the last hour, at most 8 in a minute"' in body
    assert 'aria-label="Loop lag, longest of each minute: 500 ms, longest 500 ms"' in body
    assert "9 s" not in body


def test_minutes_before_its_start_and_after_its_end_are_left_out(db):
    process = make_process(started_at=minutes_ago(10), stopped_at=minutes_ago(5), state=Process.State.STOPPED)
    make_rollup(process.pk, minutes_ago(7), Rollup.Resolution.MINUTE, {"a": (0.1, 3)})
    from bgtasks.reports import rollups

    now = timezone.now()
    stretches = rollups.read("default", rollups.MINUTE, now, process_page.HOUR, [process.pk])

    assert process_page.finished_by_minute(process, stretches, now)[-11:] == [0, 0, 0, 3, 0, 0, *[None] * 5]


def test_only_a_process_that_is_up_refreshes_its_page(page):
    assert "data-bgtasks-refresh" in page(page_of(make_process()))
    assert "data-bgtasks-refresh" in page(PROCESSES)
    ended = page(page_of(make_process(state=Process.State.STOPPED)))
    assert "data-bgtasks-refresh" not in ended
    assert "Drain…" not in ended


def test_the_list_draws_what_ended(page):
    process = make_process()
    make_process(pid=7)
    make_rollup(process.pk, minutes_ago(3), Rollup.Resolution.MINUTE, {"a": (0.1, 41), "b": (0.1, 1)})

    body = page(PROCESSES)

    assert body.count("bgtasks-small") == 1
    assert 'aria-label="42, at most 42 in a minute"' in body


def test_pages_of_processes_ask_as_much_of_much_as_of_little(client):
    process = make_process()

    def fill(ages: range) -> None:
        for age in ages:
            make_task(process)
            make_task(process, status=Status.SUCCESSFUL, finished_at=timezone.now())
            make_drain(process.pk)
            other = make_process(pid=age)
            for each in (process, other):
                make_rollup(each.pk, minutes_ago(age), Rollup.Resolution.MINUTE, {"a": (0.1, 1)}, 0.1)

    fill(range(50, 51))
    addresses = (PROCESSES, page_of(process), f"{PROCESSES}{process.pk}/drain/")
    of_little = [count_queries(client, address) for address in addresses]
    fill(range(1, 41))

    assert [count_queries(client, address) for address in addresses] == of_little
    assert max(of_little) <= 14


def test_hostile_names_stay_text(page):
    hostile = HOSTILE[:100]
    process = make_process(
        host=hostile, server=hostile[:50], release=hostile, blocked_since=timezone.now(), blocked_by=hostile
    )
    make_task(process, hostile)
    make_task(process, hostile, status=Status.FAILED, finished_at=timezone.now())
    drain = make_drain(process.pk, asked_by=hostile, names={hostile: hostile, "javascript:alert(4)": 1})
    measure(**{hostile: (900.0, 50), "javascript:alert(5)": (900.0, 50)})

    for address in (PROCESSES, page_of(process), f"{PROCESSES}{process.pk}/drain/", DRAINS, page_of(drain)):
        body = page(address)
        assert "<script>alert" not in body
        assert "<img src=x" not in body
        assert "&lt;script&gt;" in body
        assert not re.search(r'(href|src|action)="\s*javascript:', body)


# The request to drain.


def test_a_drain_is_confirmed_asked_for_and_taken_back(client, page):
    process = make_process()
    make_task(process)
    drain, undo = f"{PROCESSES}{process.pk}/drain/", f"{PROCESSES}{process.pk}/undo-drain/"
    assert f'href="{drain}"' in page(page_of(process))

    body = page(drain)
    assert "1 task runs in it, and goes on" in body
    assert "No other process is up that takes tasks" in body
    assert Process.objects.get().drain_requested_at is None

    assert client.post(drain)["Location"] == page_of(process)
    requested_at = Process.objects.get().drain_requested_at
    assert requested_at is not None
    assert said(client) == [
        "uvicorn web-1:4312 is asked to start nothing more. It heeds that within 50 ms; its running tasks go on."
    ]
    body = page(page_of(process))
    assert f'action="{undo}"' in body
    assert f'href="{drain}"' not in body
    assert "It has been asked already." in page(drain)
    client.post(drain)
    assert Process.objects.get().drain_requested_at == requested_at

    assert client.post(undo)["Location"] == page_of(process)
    assert Process.objects.get().drain_requested_at is None
    log = [(entry.content_type.model, entry.change_message) for entry in LogEntry.objects.order_by("pk")]
    assert log == [*[("process", "Asked to drain.")] * 2, ("process", "The drain was taken back.")]
    assert "Asked to drain." in page(page_of(process).replace("/change/", "/history/"))


def test_another_process_takes_what_it_leaves(page):
    process = make_process()
    make_process(pid=8)

    assert "No other process is up" not in page(f"{PROCESSES}{process.pk}/drain/")


@pytest.mark.parametrize("action", ["drain", "undo-drain"])
def test_without_the_permission_nothing_is_offered_and_nothing_is_done(db, action):
    now = timezone.now()
    process = make_process(drain_requested_at=now if action == "undo-drain" else None)
    address = f"{PROCESSES}{process.pk}/{action}/"
    before = Process.objects.values().get()
    viewer, half = log_in(*VIEWS, name="viewer"), log_in("drain_process", name="half", sees_tasks=False)

    assert address not in viewer.get(page_of(process)).content.decode()
    for each in (viewer, half):
        assert each.post(address).status_code == 403
    assert viewer.get(f"{PROCESSES}{process.pk}/drain/").status_code == 403
    assert "/login/" in Client().post(address)["Location"]

    assert Process.objects.values().get() == before
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("action", ["drain", "undo-drain"])
def test_only_a_post_with_the_token_drains(client, action):
    now = timezone.now()
    process = make_process(drain_requested_at=now if action == "undo-drain" else None)
    address = f"{PROCESSES}{process.pk}/{action}/"
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.get())

    assert strict.post(address).status_code == 403
    assert client.put(address).status_code == 405
    if action == "undo-drain":
        assert client.get(address).status_code == 405
    assert (Process.objects.get().drain_requested_at is None) is (action == "drain")

    shown = address if action == "drain" else page_of(process)
    token = re.search(r'csrfmiddlewaretoken" value="(\w+)"', strict.get(shown).content.decode())
    assert token
    assert strict.post(address, {"csrfmiddlewaretoken": token[1]}).status_code == 302
    assert (Process.objects.get().drain_requested_at is None) is (action == "undo-drain")


@pytest.mark.parametrize("action", ["drain", "undo-drain"])
def test_a_process_that_has_ended_is_not_asked(client, action):
    process = make_process(state=Process.State.DEAD)

    assert client.post(f"{PROCESSES}{process.pk}/{action}/")["Location"] == page_of(process)
    assert said(client) == ["uvicorn web-1:4312 has ended: there is nothing to drain."]
    assert client.post(f"{PROCESSES}{uuid4()}/{action}/")["Location"] == PROCESSES
    assert said(client) == ["This process is not known any more."]
    assert not LogEntry.objects.exists()


async def test_a_living_process_heeds_it(runtime: Runtime) -> None:
    process_id = apps.get_app_config("bgtasks").runtime.state.id
    row = Process.objects.filter(pk=process_id)
    await wait_until(row.aexists)
    client = await sync_to_async(log_in)(*VIEWS, "drain_process")
    running = bgtasks.fire(tasks.sleep, 3600)
    await wait_until(lambda: BackgroundTask.objects.filter(pk=running.id, status="RUNNING").aexists())

    await sync_to_async(client.post)(f"{PROCESSES}{process_id}/drain/")
    await wait_until(row.filter(state="DRAINING", drain_acknowledged_at__isnull=False).aexists)
    waiting = bgtasks.fire(tasks.succeed, 1)
    await wait_until(lambda: BackgroundTask.objects.filter(pk=waiting.id, status="READY").aexists())
    assert running.status is Status.RUNNING
    await sync_to_async(client.post)(f"{PROCESSES}{process_id}/undo-drain/")

    await wait_until(row.filter(state="ALIVE", drain_acknowledged_at=None).aexists)
    running.cancel()


# Drains.


def test_the_page_of_a_drain_draws_and_describes_it(page):
    drain = make_drain(make_process().pk)

    body = page(page_of(drain))

    words = (
        "9 ran at the start, 4 finished in time. After 20 s the rest was cut short: 3 ended then, 2 did not. It took "
        "22.5 s."
    )
    assert f'aria-label="{words}"' in body
    assert f"<figcaption>{words}</figcaption>" in body
    assert "bgtasks-drain-cut" in body
    assert ends_of(body)[1].startswith("1000.0,")  # Two tasks are left.
    assert "cut short, after 20 s" in body
    assert f'href="/admin/bgtasks/backgroundtask/?name={quote_plus("shop.tasks.export")}">export</a>' in body


def test_a_drain_in_time_has_no_deadline(page):
    drain = make_drain(
        uuid4(),
        cut_short_after=None,
        cancelled_count=0,
        left_count=0,
        finished_count=9,
        names={},
        course=[[0.0, 9], [22.5, 0]],
    )

    body = page(page_of(drain))

    assert ends_of(body) == ["970.0,0.0 970.0,48.0"]  # The step down to zero is visible before the edge.

    assert "9 ran at the start, 9 finished, none was cut short. It took 22.5 s." in body
    assert "bgtasks-drain-cut" not in body
    assert "Unfinished tasks" not in body


def test_the_list_draws_each_drain_with_tasks(page):
    for _ in range(3):
        make_drain(uuid4())
    empty = make_drain(uuid4(), running_at_start=0, finished_count=0, course=[], cut_short_after=None)

    assert page(DRAINS).count("bgtasks-drain-picture") == 3
    assert "Nothing ran in it." in page(page_of(empty))


def test_names_are_no_links_for_users_who_may_not_see_tasks(db):
    drain = make_drain(uuid4())

    body = log_in("view_drain", sees_tasks=False).get(page_of(drain)).content.decode()

    assert "export" in body
    assert "?name=" not in body


@pytest.mark.parametrize("course", [None, "x", [], [7], [[1]], [["a", "b"]], [[0, 3], None], {"a": 1}])
def test_a_malformed_course_is_no_error(page, course):
    drain = make_drain(uuid4(), course=course)

    page(page_of(drain))
    page(DRAINS)


# Advice.


def test_advice_rests_on_what_was_measured(page):
    drain = make_drain(uuid4())
    measure(shop__send=(0.2, 991), shop__export=(140.0, 20))

    for address in (DRAINS, page_of(drain)):
        body = page(address)
        assert "3 s covers 98 % of the tasks: 1,011 were measured in the last 7 days." in body
        assert f'<a href="/admin/bgtasks/backgroundtask/?name={quote_plus("shop.export")}">export</a>' in body
        assert re.search(r"p95 2 min \d+ s, of 20 tasks", body)
        assert "It will be interrupted." in body
        assert re.search(r"<code>DRAIN_TIMEOUT</code> to at least <b>1[4-7]0</b>", body)


def test_advice_is_content_with_what_is_enough(page):
    measure(shop__send=(0.2, 100))

    body = page(DRAINS)

    assert "3 s covers 100 % of the tasks" in body
    assert "interrupted" not in body.partition("bgtasks-advice")[2].partition("</section>")[0]
    assert "to at least" not in body


def test_of_too_little_no_advice_is_given(page):
    measure(shop__export=(140.0, 19))

    assert "DRAIN_TIMEOUT" not in page(DRAINS)
    assert "DRAIN_TIMEOUT" not in page(page_of(make_drain(uuid4())))


def test_pages_of_drains_ask_as_much_of_much_as_of_little(client):
    drain = make_drain(uuid4())
    measure(a=(140.0, 50))
    of_little = [count_queries(client, address) for address in (DRAINS, page_of(drain))]
    for number in range(40):
        make_drain(uuid4())
        measure(**{f"name_{number}": (140.0, 50)})

    assert [count_queries(client, address) for address in (DRAINS, page_of(drain))] == of_little
    assert max(of_little) <= 10
