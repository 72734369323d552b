"""The admin: its pages, its permissions, its queries, and its behaviour with odd data."""

from __future__ import annotations

import re
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from bgtasks.admin.shared import cache, paginator, search_window
from bgtasks.admin.tasks import search as task_search
from bgtasks.definition import declared, task
from bgtasks.models import BackgroundTask, Drain, Process
from bgtasks.status import Status
from bgtasks.uuid7 import first_id_of, uuid7

pytestmark = pytest.mark.django_db

TASKS = "/admin/bgtasks/backgroundtask/"
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7|add:7 }}{% now %} javascript:alert(3)"
PAGES = {"backgroundtask": BackgroundTask, "process": Process, "drain": Drain}


@pytest.fixture
def admin_client(client):
    """The client of a superuser without a password, whose hash would take longer than most tests."""
    client.force_login(User.objects.create(username="root", is_staff=True, is_superuser=True))
    return client


@pytest.fixture
def page(admin_client):
    """Fetch a page that must exist; return its body without the breaks in long names."""

    def fetch(address: str, **query) -> str:
        response = admin_client.get(address, query)
        assert response.status_code == 200, (response.status_code, response.get("Location"))
        return response.content.decode().replace("<wbr>", "")

    return fetch


@pytest.fixture
def declare():
    """Declare a task function for the time of a test."""
    names = []

    def make(name: str, function=None):
        def nothing(first, second=None): ...

        names.append(name)
        return task(name=name)(function or nothing)

    yield make
    for name in names:
        declared.pop(name, None)


def make_task(name="shop.tasks.send", status=Status.SUCCESSFUL, **more) -> BackgroundTask:
    now = timezone.now()
    is_started = status != Status.READY
    values = {
        "created_at": now - timedelta(seconds=9),
        "started_at": now - timedelta(seconds=8) if is_started else None,
        "finished_at": now - timedelta(seconds=5) if is_started and status != Status.RUNNING else None,
        "attempt": int(is_started),
    }
    return BackgroundTask.objects.create(name=name, status=status, **(values | more))


def make_process(**more) -> Process:
    values = {"host": "web-1", "pid": 4312, "server": "uvicorn", "started_at": timezone.now(), "has_lifespan": True}
    return Process.objects.create(**(values | more))


def make_drain(process: UUID, **more) -> Drain:
    counts = {"running_at_start": 9, "finished_count": 4, "cancelled_count": 3, "left_count": 2}
    values = {"asked_by": "lifespan", "started_at": timezone.now(), "seconds": 1.5, **counts}
    return Drain.objects.create(process=process, **(values | more))


def address_of(row) -> str:
    return reverse(f"admin:bgtasks_{row._meta.model_name}_change", args=[row.pk])


def orders_in(queries) -> list[str]:
    """Return the order of each query for tasks."""
    asked = [each["sql"] for each in queries if "ORDER BY" in each["sql"]]
    ordered = [sql.split("ORDER BY")[1].split("LIMIT")[0].strip() for sql in asked if "bgtasks_backgroundtask" in sql]
    return [order.replace("`", '"') for order in ordered]  # The quotes of MariaDB.


def ids_in(body: str) -> set[str]:
    return set(re.findall(r"/backgroundtask/([0-9a-f-]{36})/change/", body))


# Rows are read-only.


@pytest.fixture(params=PAGES)
def row(request):
    made = {"backgroundtask": make_task, "process": make_process, "drain": lambda: make_drain(uuid4())}
    return made[request.param]()


def test_rows_are_read_only_even_for_superusers(admin_client, row):
    address = address_of(row)
    before = type(row).objects.values().get()
    list_address = reverse(f"admin:bgtasks_{row._meta.model_name}_changelist")

    assert admin_client.get(address).status_code == 200
    assert admin_client.get(address.replace("/change/", "/history/")).status_code == 200
    assert admin_client.post(address, {"name": "other"}).status_code == 403
    assert admin_client.get(f"{list_address}add/").status_code == 403
    assert admin_client.post(address.replace("/change/", "/delete/"), {"post": "yes"}).status_code == 403
    admin_client.post(list_address, {"action": "delete_selected", "_selected_action": [str(row.pk)], "post": "yes"})

    assert type(row).objects.values().get() == before


def test_list_offers_actions_on_tasks_only_and_nothing_to_add(page, row):
    body = page(reverse(f"admin:bgtasks_{row._meta.model_name}_changelist"))

    assert str(row.pk) in body
    assert ('type="checkbox"' in body) is isinstance(row, BackgroundTask)
    assert "delete_selected" not in body
    assert f'href="{reverse(f"admin:bgtasks_{row._meta.model_name}_changelist")}add/' not in body.split("</nav>")[-1]


def test_view_permission_is_what_it_takes(client, row):
    name = row._meta.model_name
    user = User.objects.create(username="ann", is_staff=True)
    client.force_login(user)

    assert client.get(address_of(row)).status_code == 403

    user.user_permissions.add(Permission.objects.get(codename=f"view_{name}"))

    assert client.get(address_of(row)).status_code == 200


def test_anonymous_is_sent_to_the_login(client, row):
    assert "/login/" in client.get(address_of(row))["Location"]


def test_unknown_and_malformed_ids_are_no_errors(admin_client):
    for wrong in (uuid4(), "x", "%00", "_00", "1" * 500):
        assert admin_client.get(f"{TASKS}{wrong}/change/").status_code in (302, 404)


# The list.


def test_row_shows_what_matters(page):
    process = make_process()
    make_task("shop.tasks.send_welcome", attempt=2, max_attempts=3, process=process.pk, key="welcome:7")

    body = page(TASKS)

    for shown in ("shop.tasks", "send_welcome", "Successful", "1 s", "3 s", "2/3", "web-1:4312", "welcome:7"):
        assert shown in body


def test_row_of_a_failure_shows_its_error(page):
    make_task(status=Status.FAILED, error_type="shop.errors.Unavailable")
    make_task(status=Status.FAILED, error_type=HOSTILE)

    body = page(TASKS)

    assert 'title="shop.errors.Unavailable">Unavailable<' in body
    assert "<script>alert" not in body


def test_unknown_process_is_shown_by_its_id(page):
    process_id = uuid7()
    make_task(process=process_id)

    assert f"…{process_id.hex[-8:]}" in page(TASKS)


def test_live_tasks_show_how_long_it_has_been_so_far(page):
    make_task(status=Status.RUNNING, started_at=timezone.now() - timedelta(minutes=3, seconds=2))
    make_task(status=Status.READY, created_at=timezone.now() - timedelta(hours=2, minutes=1))
    make_task(status=Status.READY, run_after=timezone.now() + timedelta(days=2, hours=3, minutes=1))

    body = page(TASKS)

    assert "3 min" in body
    assert "2 h 1 min" in body
    assert "due in 2 d 3 h" in body


@pytest.mark.parametrize(
    ("shown", "statuses"),
    [
        (None, set(Status)),
        ("live", {Status.READY, Status.RUNNING}),
        ("waiting", {Status.READY}),
        ("running", {Status.RUNNING}),
        ("failed", {Status.FAILED, Status.INTERRUPTED, Status.LOST}),
    ],
)
def test_links_above_the_list(page, shown, statuses):
    rows = {status: make_task(status=status) for status in Status}

    body = page(TASKS, **({"show": shown} if shown else {}))

    assert ids_in(body) == {str(rows[status].pk) for status in statuses}
    assert 'href="?show=live"' in body
    assert 'href="?show=failed"' in body


def test_links_above_the_list_count_what_needs_a_look(page):
    for status in Status:
        make_task(status=status)

    counts = re.findall(r'bgtasks-count[^>]*">(\d+)<', page(TASKS))

    assert counts == ["2", "1", "1", "3"]


def test_filters(page, declare):
    declare("shop.tasks.declared")
    process = make_process()
    old = make_task(id=first_id_of(timezone.now() - timedelta(days=3)))
    failed = make_task("shop.tasks.declared", Status.FAILED, process=process.pk)

    assert "shop.tasks.declared</option>" in page(TASKS)
    assert ids_in(page(TASKS, name="shop.tasks.declared")) == {str(failed.pk)}
    assert ids_in(page(TASKS, status="FAILED")) == {str(failed.pk)}
    assert ids_in(page(TASKS, fired="day")) == {str(failed.pk)}
    assert ids_in(page(TASKS, fired="week")) == {str(failed.pk), str(old.pk)}
    assert ids_in(page(TASKS, process=str(process.pk))) == {str(failed.pk)}
    assert ids_in(page(TASKS, process=str(process.pk), show="live")) == set()
    assert "web-1:4312</option>" in page(TASKS, process=str(process.pk))


def test_form_that_leaves_all_filters_empty_shows_all(page):
    row, process = make_task(), make_process()

    assert str(row.pk) in page(TASKS, q="", show="", status="", name="", fired="", process="")
    assert str(process.pk) in page(reverse("admin:bgtasks_process_changelist"), state="")


def test_filter_of_processes(page):
    dead, alive = make_process(state=Process.State.DEAD), make_process()

    body = page(reverse("admin:bgtasks_process_changelist"), state="DEAD")

    assert str(dead.pk) in body
    assert str(alive.pk) not in body


def test_search(page, declare):
    declare("shop.tasks.send_welcome")
    one = make_task("shop.tasks.send_welcome", key="order:7%_")
    other = make_task("notify:ann@example.com", Status.READY, key="7", live_key="7")

    for term in (str(one.pk), one.pk.hex, one.pk.hex.upper(), "order:7%_", "WELCOME", f"  {one.pk} "):
        assert ids_in(page(TASKS, q=term)) == {str(one.pk)}, term
    for term in (str(other.pk), "7", "ann@exa"):
        assert ids_in(page(TASKS, q=term)) == {str(other.pk)}, term
    assert ids_in(page(TASKS, q="order:")) == set()  # A key is found only as a whole.
    assert ids_in(page(TASKS, q=str(uuid4()))) == set()


def test_search_beyond_the_newest_rows_finds_ids_live_keys_and_names(page, monkeypatch):
    monkeypatch.setattr(search_window, "RECENT", 2)
    old = make_task("shop.tasks.old", key="finished")
    live = make_task("shop.tasks.gone", Status.READY, key="live", live_key="live")
    for _ in range(3):
        make_task()

    for term in (str(old.pk), "tasks.OLD"):
        assert ids_in(page(TASKS, q=term)) == {str(old.pk)}
    for term in ("live", "shop.tasks.gone", "asks.gon"):
        assert ids_in(page(TASKS, q=term)) == {str(live.pk)}
    assert ids_in(page(TASKS, q="finished")) == set()
    assert "Only the newest 2 tasks are searched" in page(TASKS, q="finished")
    assert "Only the newest" not in page(TASKS, q=str(old.pk))


@pytest.mark.parametrize(("limit", "value"), [("MAX_DIFFERENT", 2), ("MAX_NAMES", 1)])
def test_parts_of_too_many_names_are_looked_for_among_the_newest_rows(page, declare, monkeypatch, limit, value):
    """Tasks of declared functions, among all tasks."""
    monkeypatch.setattr(search_window, "RECENT", 3)
    monkeypatch.setattr(task_search, limit, value)
    declare("shop.tasks.declared")
    make_task("shop.tasks.old")
    rows = [make_task("shop.tasks.declared"), *(make_task(f"shop.tasks.number_{number}") for number in range(3))]

    assert ids_in(page(TASKS, q="shop.TASKS")) == {str(row.pk) for row in rows}
    assert "Only the newest 3 tasks are searched" in page(TASKS, q="shop.TASKS")


def test_search_for_an_id_means_the_task(page):
    task = make_task()
    with_the_key = make_task(key=str(task.pk))
    make_task("other", key="x")

    assert ids_in(page(TASKS, q=str(task.pk))) == {str(task.pk)}
    BackgroundTask.objects.filter(pk=task.pk).delete()
    assert ids_in(page(TASKS, q=str(task.pk))) == {str(with_the_key.pk)}


@pytest.mark.parametrize("few", [2, 500])
def test_search_finds_all_tasks_with_a_key(page, monkeypatch, few):
    monkeypatch.setattr(paginator, "FEW", few)
    rows = [make_task(f"{name}.order", key=key) for name, key in (("a", "order"), ("b", "x"), ("c", "order"))]
    rows += [make_task("other", key="order") for _ in range(3)]
    failed = make_task("other", Status.FAILED, key="order")
    make_task("other", key="order:7")

    assert ids_in(page(TASKS, q="order")) == {str(row.pk) for row in [*rows, failed]}
    assert ids_in(page(TASKS, q="order", status="FAILED")) == {str(failed.pk)}


@pytest.mark.parametrize(
    "field", ["q", "name", "status", "show", "fired", "process", "p", "o", "e", "args__regex", "x"]
)
def test_hostile_queries_are_no_errors(admin_client, field):
    make_task()
    numbers = ["-1", "1e9", "9" * 5000]

    for term in ["\x00", "a\x00b", "%", "_%_", "'", '"', "\\", HOSTILE, "x" * 10_000, "\ud7ff\ufffe", *numbers]:
        response = admin_client.get(TASKS, {field: term})

        assert response.status_code in (200, 302, 400), term[:50]
        assert b"<script>alert" not in response.content


def test_newest_first(admin_client):
    rows = [make_task() for _ in range(3)]

    with CaptureQueriesContext(connection) as queries:
        response = admin_client.get(TASKS)

    assert [row.pk for row in response.context["cl"].result_list] == [row.pk for row in reversed(rows)]
    assert orders_in(queries) == []  # Few rows are sorted in Python.


def test_oldest_first_on_demand(admin_client):
    rows = [make_task() for _ in range(3)]

    response = admin_client.get(TASKS, {"o": "3"})

    assert [row.pk for row in response.context["cl"].result_list] == [row.pk for row in rows]


@pytest.mark.parametrize(
    ("order", "direction"), [("", "DESC"), ("3", "ASC"), ("-3", "DESC"), ("0.1.2.4.5.6.7", "DESC")]
)
def test_many_rows_are_ordered_by_the_primary_key_alone(admin_client, monkeypatch, order, direction):
    monkeypatch.setattr(paginator, "FEW", 1)
    for _ in range(3):
        make_task()

    with CaptureQueriesContext(connection) as queries:
        admin_client.get(TASKS, {"o": order} if order else {})

    assert orders_in(queries) == [f'"bgtasks_backgroundtask"."id" {direction}']


@pytest.mark.parametrize("name", PAGES)
def test_pages_ask_as_much_of_many_rows_as_of_one(admin_client, name, declare):
    address = reverse(f"admin:bgtasks_{name}_changelist")

    def add_rows(count):
        for number in range(count):
            process = make_process(pid=number)
            make_task(process=process.pk, key=f"{number}")
            make_drain(process.pk)

    def ask(**query):
        cache.forget_all()
        with CaptureQueriesContext(connection) as queries:
            assert admin_client.get(address, query).status_code == 200
        return [each["sql"] for each in queries]

    add_rows(1)
    of_one = ask()
    of_one_search = ask(q="tasks")
    add_rows(99)
    of_many = ask()

    assert len(of_many) == len(of_one) <= 9
    assert len(ask(q="tasks")) == len(of_one_search) <= 12
    for sql in of_many:
        assert "COUNT(" not in sql or "LIMIT" in sql, sql


def test_list_leaves_the_large_columns_alone(admin_client):
    make_task(args=["x"])

    with CaptureQueriesContext(connection) as queries:
        admin_client.get(TASKS)

    for column in ("args", "kwargs", "result", "traceback", "transitions", "checkpoint", "error_message", "progress"):
        assert not any(f'"{column}"' in each["sql"] for each in queries)


def test_count_stops_at_its_cap(page, monkeypatch):
    monkeypatch.setattr(paginator, "MAX_COUNT", 60)
    monkeypatch.setattr(paginator, "FEW", 5)
    for _ in range(70):
        make_task()

    assert "more than 60 tasks" in page(TASKS)


# The page of one task.


def test_page_of_a_failed_task(page, declare):
    declare("shop.tasks.charge")
    process = make_process()
    row = make_task(
        "shop.tasks.charge",
        Status.FAILED,
        args=[88213],
        kwargs={"amount": {"value": "129.90"}},
        process=process.pk,
        on_lost="rerun",
        max_attempts=3,
        error_type="shop.errors.Unavailable",
        error_message="no answer",
        error_fingerprint="a91f",
        traceback=(
            'Traceback (most recent call last):\n  File "/srv/shop/tasks.py", line 31, in charge\n    call()\n'
            '  File "/usr/lib/python3.11/smtplib.py", line 3, in call\n    raise Unavailable\n'
            "shop.errors.Unavailable: no\n"
        ),
        transitions=[
            {"status": "RUNNING", "at": "2026-01-02T03:04:05+00:00", "attempt": 1, "by": str(process.pk)},
            {"status": "FAILED", "at": "2026-01-02T03:04:06.5+00:00", "attempt": 1, "why": "no attempts left"},
        ],
        fired_by={"method": "POST", "path": "/pay", "user_id": 7, "request_id": "abc"},
        release="2026.1",
    )

    body = page(address_of(row))

    assert f'href="{address_of(process)}"' in body
    for shown in ("POST /pay", "user 7", ">abc<", "2026.1", "at least once", "a91f", "shop.errors.Unavailable"):
        assert shown in body
    for shown in ("+1.50 s", "no attempts left", "by web-1:4312", "<rect", ">first<", "88213", "129.90"):
        assert shown in body
    assert body.index("<b>tasks.py:31</b>") < body.index("Whole traceback") < body.index("line 3, in call")
    assert body.index('class="bgtasks-library"') < body.index("<b>smtplib.py:3</b>") < body.index("<b>tasks.py:31</b>")


def test_exception_group_is_shown_whole_and_open(page):
    row = make_task(
        status=Status.FAILED, error_type="ExceptionGroup", traceback="  + Exception Group Traceback\n  | x\n"
    )

    body = page(address_of(row))

    assert "<details open" in body
    assert "  + Exception Group Traceback" in body


@pytest.mark.parametrize("status", Status)
def test_only_a_live_task_refreshes_its_page(page, status):
    body = page(address_of(make_task(status=status)))

    assert ("data-bgtasks-refresh=" in body) is (status in (Status.READY, Status.RUNNING))
    assert "bgtasks/admin.js" in body


def test_page_takes_the_same_queries_whatever_the_history(admin_client):
    def count(row):
        with CaptureQueriesContext(connection) as queries:
            assert admin_client.get(address_of(row)).status_code == 200
        return len(queries)

    processes = [make_process() for _ in range(9)]
    history = [{"status": "RUNNING", "at": "2026-01-02T03:04:05Z", "by": str(each.pk)} for each in processes]

    count(make_task())  # Lookups that Django caches, such as content types.
    assert count(make_task(transitions=history, process=processes[0].pk)) == count(make_task(process=processes[0].pk))


MALFORMED = [
    None,
    7,
    "x",
    [],
    {},
    [None],
    [[]],
    {"a": {}},
    [{"status": 1, "at": 2, "by": [], "why": {}}],
    # The other databases do not store it at all.
    pytest.param("\ud800", marks=pytest.mark.databases("sqlite")),
    True,
]


@pytest.mark.parametrize("value", MALFORMED, ids=repr)
def test_malformed_json_is_no_error(page, value):
    some = "x" if value is None else value
    fields = ("progress", "await_place", "result", "checkpoint", "fired_by")
    row = make_task(args=some, kwargs=some, transitions=some, **dict.fromkeys(fields, value))
    running = make_task(
        status=Status.RUNNING, await_place=value, fired_by={"method": some, "path": some, "user_id": some}
    )

    page(address_of(row))
    page(address_of(running))
    page(address_of(make_drain(uuid4(), names=some)))
    page(TASKS)


def test_unknown_status_is_no_error(page):
    row = make_task(status="BAKED<b>")

    assert "BAKED&lt;b&gt;" in page(address_of(row))
    assert "BAKED&lt;b&gt;" in page(TASKS)


def test_very_large_values_are_cut(page):
    row = make_task(
        status=Status.FAILED,
        args=["x" * 300_000],
        kwargs={str(number): number for number in range(5_000)},
        result=["y" * 90_000],
        error_message="m" * 90_000,
        traceback="t" * 300_000,
        transitions=[{"status": "READY", "at": "2026-01-02T03:04:05Z", "why": "w" * 9_000}] * 1_000,
    )

    body = page(address_of(row))

    assert len(body) < 400_000
    assert "characters are shown" in body


def test_everything_is_escaped(page):
    hostile = HOSTILE[:100]
    process = make_process(
        host=hostile, server=hostile[:50], release=hostile, beat_at=timezone.now(), has_lifespan=False
    )
    drain = make_drain(process.pk, asked_by=hostile, names={hostile: hostile})
    frames = f'Traceback (most recent call last):\n  File "{hostile}", line 1, in {hostile}\n    {hostile}\n{hostile}\n'
    row = make_task(
        hostile,
        Status.FAILED,
        args=[hostile],
        kwargs={hostile: hostile},
        key=hostile,
        queue_name=hostile,
        process=process.pk,
        progress={hostile: hostile},
        result=hostile,
        checkpoint=hostile,
        error_type=hostile,
        error_message=hostile,
        error_fingerprint=hostile[:16],
        traceback=frames,
        release=hostile,
        transitions=[dict.fromkeys(["status", "at", "attempt", "by", "why"], hostile)] * 2,
        fired_by=dict.fromkeys(["method", "path", "request_id", "user_id"], hostile),
    )
    lists = [reverse(f"admin:bgtasks_{name}_changelist") for name in PAGES]

    for address in [*lists, address_of(row), address_of(process), address_of(drain)]:
        body = page(address)
        assert "<script>alert" not in body
        assert "<img src=x" not in body
        assert "&lt;script&gt;" in body
        assert not re.search(r'(href|src)="\s*javascript:', body)
    assert "<script>alert" not in page(TASKS, name=hostile, q=hostile, show=hostile)


def test_pages_have_no_inline_script_and_no_inline_style(page):
    row = make_task(transitions=[{"status": "READY", "at": "2026-01-02T03:04:05Z"}])

    content = page(address_of(row)).split('<div id="content-main"')[1].split("<!-- END Content -->")[0]

    assert "<script" not in re.sub(r'<script src="[^"]*"', "", content)
    assert " style=" not in content


# Processes and drains.


def test_list_of_processes(page):
    now = timezone.now()
    alive = make_process(
        beat_at=now - timedelta(hours=1),
        loop_lag=2.5,
        memory=5 * 2**20,
        connections=14,
        running=3,
        drain_requested_at=now,
    )
    make_process(state=Process.State.DEAD, pid=7)

    body = page(reverse("admin:bgtasks_process_changelist"))

    for shown in ("web-1:4312", "web-1:7", "Alive", "Dead", "1 h ago", "2.50 s", "5.0\xa0MB", "asked to drain"):
        assert shown in body
    assert body.count("connections</span>") == 1
    assert '<span class="bgtasks-under">14 connections</span>' in body
    assert f"?show=live&amp;process={alive.pk}" in body
    assert ids_in(page(TASKS, show="live", process=str(alive.pk))) == set()


def test_page_of_a_task_shows_its_policies(page):
    hostile = "<script>alert(1)</script>"
    task = make_task(
        status="READY", options={"timeout": 5, "backoff": hostile}, rate_key=hostile, key="welcome:42", priority=7
    )
    text = page(f"{TASKS}{task.pk}/change/")
    assert "timeout=5" in text
    assert "welcome:42" in text
    assert "<script>alert" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 2


def test_page_of_a_process(page):
    now = timezone.now()
    process = make_process(
        beat_at=now,
        fired_count=4711,
        connections=14,
        drain_requested_at=now - timedelta(seconds=2),
        drain_acknowledged_at=now,
    )
    drain = make_drain(process.pk)

    body = page(address_of(process))

    assert re.search(r"<dt>Connections</dt>\s*<dd[^>]*>14\b", body)
    for shown in ("4711", "It drains", "Asked to drain at", "acknowledged at", "it starts nothing"):
        assert shown in body
    assert f"?show=live&amp;process={process.pk}" in body
    assert address_of(drain) in body


def test_list_and_page_of_drains(page):
    drain = make_drain(make_process().pk, names={"shop.tasks.slow": 3})

    body = page(reverse("admin:bgtasks_drain_changelist"))

    assert re.search(r'bgtasks-warning">3<', body)
    assert re.search(r'bgtasks-alarm">2<', body)
    assert "web-1:4312" in body
    assert "shop.tasks.slow" in page(address_of(drain))


def test_odd_numbers_are_no_errors(page):
    process = make_process(loop_lag=1e300, memory=2**62, fired_count=2**62)

    page(address_of(process))
    page(address_of(make_drain(process.pk, seconds=1e300)))
    page(reverse("admin:bgtasks_process_changelist"))
    page(reverse("admin:bgtasks_drain_changelist"))


# Where no drain is active.


@pytest.mark.parametrize(
    ("values", "is_named"),
    [
        ({}, True),
        ({"state": Process.State.DRAINING}, True),
        ({"has_lifespan": True}, False),
        ({"state": Process.State.STOPPED}, False),
        ({"state": Process.State.DEAD}, False),
        ({"beat_at": None}, False),
        ({"beat_at": timezone.now() - timedelta(hours=1)}, False),
    ],
)
def test_banner_names_living_processes_without_a_drain(page, values, is_named):
    process = make_process(**{"beat_at": timezone.now(), "has_lifespan": False, **values})
    other = make_process(pid=5, beat_at=timezone.now())

    for address in (TASKS, reverse("admin:bgtasks_process_changelist"), address_of(process)):
        banner = page(address).partition("<strong>No drain is active</strong>")[2].partition("</div>")[0]
        assert ("uvicorn web-1:4312" in banner) is is_named
        assert "web-1:5" not in banner
        assert ("Lifespan(get_asgi_application())" in banner) is is_named
        assert "manage.py run_tasks" not in banner
    assert "No drain is active" not in page(address_of(other))


def test_banner_says_what_to_do_about_a_command(page):
    process = make_process(beat_at=timezone.now(), has_lifespan=False, server="manage.py import_prices")

    body = page(address_of(process))

    assert "manage.py run_tasks" in body
    assert "Lifespan(" not in body


def test_banner_names_a_few_of_many_processes(page):
    for pid in range(50):
        make_process(beat_at=timezone.now(), has_lifespan=False, pid=pid)

    banner = page(TASKS).partition("<strong>No drain is active</strong>")[2].partition("</p>")[0]

    assert banner.count("<a href") == 5
    assert "…" in banner


def test_banner_links_to_no_page_that_may_not_be_seen(client):
    make_process(beat_at=timezone.now(), has_lifespan=False)
    user = User.objects.create(username="ann", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_backgroundtask"))
    client.force_login(user)

    banner = client.get(TASKS).content.decode().partition("<strong>No drain is active</strong>")[2].partition("</p>")[0]

    assert "uvicorn web-1:4312" in banner
    assert "<a href" not in banner


def test_the_ledger_shows_whether_all_is_accounted_for(page):
    process = make_process(fired_count=0)
    for _ in range(3):
        make_task(origin=process.pk)
    Process.objects.update(fired_count=3)
    body = page("/admin/bgtasks/ledger/")
    assert "Every fired task is in the table" in body
    with CaptureQueriesContext(connection) as few:
        page("/admin/bgtasks/ledger/")
    Process.objects.update(fired_count=5)
    for _ in range(30):
        make_task(origin=process.pk)
    with CaptureQueriesContext(connection) as many:
        body = page("/admin/bgtasks/ledger/")
    assert "Some tasks are not accounted for." in body
    assert "-28" in body
    assert len(many) == len(few)


def test_the_ledger_is_for_those_who_may_view_it(client):
    user = User.objects.create(username="staff", is_staff=True)
    client.force_login(user)
    assert client.get("/admin/bgtasks/ledger/").status_code == 403
    user.user_permissions.add(Permission.objects.get(codename="view_ledger"))
    assert client.get("/admin/bgtasks/ledger/").status_code == 200


def test_a_process_shows_what_blocks_it_and_what_it_died_with(page):
    now = timezone.now()
    blocked = make_process(beat_at=now, blocked_since=now, blocked_by=f"task {HOSTILE}\n  time.sleep(5)")
    dead = make_process(state="DEAD", died_with={HOSTILE: 7, "shop.export": 12})
    assert "blocked" in page("/admin/bgtasks/process/")
    body = page(f"/admin/bgtasks/process/{blocked.pk}/change/")
    assert "Code that blocked its event loop" in body
    assert "time.sleep(5)" in body
    assert "<script>alert" not in body
    body = page(f"/admin/bgtasks/process/{dead.pk}/change/")
    assert body.index("shop.export") < body.index("&lt;script&gt;")
    assert "<script>alert" not in body
