"""The list of all tasks: filters, the search for arguments, pages; each bounded and robust against odd input."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from bgtasks.admin.shared import paginator, search_window
from bgtasks.definition import declared, task
from bgtasks.models import BackgroundTask
from bgtasks.status import Status
from bgtasks.uuid7 import first_id_of
from tests import tables
from tests.integration.test_admin_actions import HOSTILE, LIST, log_in, make_task

pytestmark = pytest.mark.django_db

NAMES = ["shop.tasks.named", "shop.tasks.alias"]
FIELDS = ["queue", "release", "error", "user", "process", "finished", "fingerprint", "fired", "before", "after"]
ODD = ["\x00", "a\x00b", "%", "'", '"', "\\", HOSTILE, "x" * 10_000, "9" * 5000, "-1", "1e9", "none", "\ud7ff\ufffe"]


@pytest.fixture
def client(db: None) -> Client:
    return log_in("view_task_args", "cancel_task")


@pytest.fixture
def find(client: Client) -> Callable[..., set[UUID]]:
    def find(client: Client = client, **query: Any) -> set[UUID]:
        return {row.pk for row in rows_of(client, **query)}

    return find


@pytest.fixture
def declare() -> Any:
    names = []

    def make(function: Any, **options: Any) -> None:
        names.append(options["name"])
        task(**options)(function)

    yield make
    for name in names:
        declared.pop(name, None)


def rows_of(client: Client, address: str = LIST, **query: Any) -> list[BackgroundTask]:
    answer = client.get(address, query)
    assert answer.status_code == 200, (answer.status_code, answer.get("Location"))
    return list(answer.context["cl"].result_list)


def text_of(client: Client, **query: Any) -> str:
    return client.get(LIST, query).content.decode()


# Pages.


def turn(client: Client, address: str, way: str) -> str:
    """Return the address of the next or the previous page; empty if there is none."""
    body = client.get(address).content.decode()
    found = re.search(rf'href="([^"]*)" rel="{way}"', body)
    return LIST + unescape(found[1]) if found else ""


def walk(client: Client, address: str, way: str) -> list[str]:
    addresses = []
    while address:
        addresses.append(address)
        address = turn(client, address, way)
        assert len(addresses) < 20
    return addresses


@pytest.mark.parametrize("few", [10, 1000])
@pytest.mark.parametrize("order", ["", "3"])
def test_pages_hold_every_row_once_on_the_way_there_and_back(client, monkeypatch, few, order):
    monkeypatch.setattr(paginator, "FEW", few)
    rows = [make_task(status=Status.FAILED) for _ in range(130)]
    make_task(status=Status.SUCCESSFUL)
    start = f"{LIST}?status=FAILED" + (f"&o={order}" if order else "")

    there = walk(client, start, "next")
    back = walk(client, there[-1], "prev")

    expected = [row.pk for row in (rows if order else rows[::-1])]
    pages = [[row.pk for row in rows_of(client, address)] for address in there]
    assert [len(page) for page in pages] == [50, 50, 30]
    assert [pk for page in pages for pk in page] == expected
    assert [[row.pk for row in rows_of(client, address)] for address in back[::-1]][1:] == pages[1:]
    assert [row.pk for row in rows_of(client, back[-1])] == expected[:50]
    assert "status=FAILED" in back[-1]


@pytest.mark.parametrize("few", [10, 1000])
def test_what_is_fired_meanwhile_shifts_no_page(client, monkeypatch, few):
    monkeypatch.setattr(paginator, "FEW", few)
    for _ in range(60):
        make_task()
    second = turn(client, LIST, "next")
    before = [row.pk for row in rows_of(client, second)]

    for _ in range(5):
        make_task()

    assert [row.pk for row in rows_of(client, second)] == before
    assert len(rows_of(client, turn(client, second, "prev"))) == 50


def test_a_page_far_back_asks_what_the_first_one_asks(client, monkeypatch):
    monkeypatch.setattr(paginator, "FEW", 5)
    rows = [make_task() for _ in range(250)]

    def ask(**query: Any) -> list[str]:
        with CaptureQueriesContext(connection) as queries:
            rows_of(client, **query)
        return [each["sql"] for each in queries]

    ask()
    first, far = ask(), ask(before=rows[60].pk)

    assert len(far) == len(first)
    assert not any("OFFSET" in sql for sql in far)


@pytest.mark.parametrize("few", [1, 1000])
def test_a_page_whose_rows_are_gone_leads_back(client, monkeypatch, few):
    monkeypatch.setattr(paginator, "FEW", few)
    rows = [make_task() for _ in range(60)]
    second = turn(client, LIST, "next")
    BackgroundTask.objects.filter(pk__lt=rows[20].pk).delete()

    assert rows_of(client, second) == []
    assert len(rows_of(client, turn(client, second, "prev"))) == 40


def test_a_cursor_is_no_filter_for_actions_and_links(client):
    rows = [make_task(status=Status.READY) for _ in range(60)]

    answer = client.get(LIST, {"before": str(rows[30].pk)})
    body = answer.content.decode()
    asked = client.post(
        f"{LIST}?before={rows[5].pk}",
        {"action": "cancel_tasks", "_selected_action": [str(rows[0].pk)], "index": 0, "select_across": 1},
    )

    assert len(answer.context["cl"].result_list) == 30
    assert "60 tasks" in body
    assert 'href="?show=live"' in body
    assert "Cancel 60 tasks?" in client.get(asked["Location"]).content.decode()


# Filters.


def ago(**length: float) -> UUID:
    return first_id_of(timezone.now() - timedelta(**length))


def test_filter_by_when_it_was_fired(find):
    ages = {"hour": 0.5, "3hours": 2, "day": 20, "3days": 60, "week": 150}
    rows = [make_task(id=ago(hours=hours)).pk for hours in ages.values()]
    make_task(id=ago(days=9))

    for place, value in enumerate(ages):
        assert find(fired=value) == set(rows[: place + 1])


def test_filter_by_when_it_finished(find, client):
    start = datetime(2026, 3, 4, 10, 0, tzinfo=UTC)

    def make(fired: timedelta, finished: timedelta) -> UUID:
        return make_task(id=first_id_of(start + fired), finished_at=start + finished).pk

    minute = timedelta(minutes=1)
    at_start = make(-minute, timedelta(0))
    long_ago = make(timedelta(hours=-23), minute / 2)
    make(timedelta(hours=-25), minute / 2)  # Beyond the search window.
    make(-3 * minute, minute)
    make(-2 * minute, -minute)
    seconds = int(start.timestamp())

    assert find(finished=f"{seconds}-{seconds + 60}") == {at_start, long_ago}
    body = text_of(client, finished=f"{seconds}-{seconds + 60}")
    assert "2026-03-04" in body
    assert 'name="finished"' in body
    assert 'name="finished"' not in text_of(client)


@pytest.mark.parametrize(
    "value",
    ["x", "1", "1-", "-1-5", "5-1", "5-5", "1.5-2", "0-999999999999", "١-٢", f"{'9' * 400}-1", "0-9999999999", "1-2\n"],
)
def test_a_stretch_of_time_that_is_none_finds_nothing(find, value):
    make_task()

    assert find(finished=value) == set()


@pytest.mark.parametrize("name", ["null", "true", "7.0", "[1]", '"', "'", "a\\b", "äé", "%", "1e1"])
def test_any_text_may_be_the_id_of_a_user(find, name):
    for other in (7, 10, "", "0", name + name, {"user_id": name}):
        make_task(fired_by={"user_id": other})
    named = make_task(fired_by={"user_id": name}).pk

    assert find(user=name) == {named}


def test_filters_by_what_only_the_rows_know(find, client):
    plain = make_task().pk
    slow = make_task(queue_name="slow").pk
    released = make_task(release="2026.1").pk
    known = make_task(error_type="shop.errors.Unavailable", error_fingerprint="a91f").pk
    builtin = make_task(error_type="TimeoutError", error_fingerprint="b2").pk
    by_number = make_task(fired_by={"user_id": 7, "path": "/"}).pk
    by_text = make_task(fired_by={"user_id": "7"}).pk
    by_name = make_task(fired_by={"user_id": "0195-ann"}).pk

    assert find(queue="slow") == {slow}
    assert "slow</option>" in text_of(client, queue="slow")
    assert find(release="2026.1") == {released}
    assert find(error="Unavailable") == find(error="shop.errors.Unavailable") == {known}
    assert find(error="TimeoutError") == {builtin}
    assert find(error="navailable") == set()
    assert find(user="7") == {by_number, by_text}
    assert find(user=" 0195-ann ") == {by_name}
    assert find(fingerprint="a91f") == {known}
    assert find(fingerprint="none") == {plain, slow, released, by_number, by_text, by_name}
    assert find(queue="slow", release="2026.1") == set()


@pytest.mark.parametrize(
    ("name", "value"),
    [("show", "dead"), ("status", "FOO"), ("fired", "yesterday"), ("process", "web-1"), ("finished", "1-2-3")],
)
def test_a_wrong_value_of_a_filter_finds_no_row_and_is_reported(find, client, name, value):
    row = make_task()

    body = text_of(client, **{name: value})

    assert f"“{value}” is no value of the filter" in body
    assert find(**{name: value}) == set()
    assert "is no value" not in text_of(client, **{name: ""})
    assert find(**{name: ""}) == {row.pk}


def test_a_name_beside_what_leaves_few(find, declare):
    declare(lambda: None, name="shop.tasks.named", aliases=["shop.tasks.alias"])
    failed, by_alias = (make_task(name, Status.FAILED, error_fingerprint="f", error_type="E").pk for name in NAMES)
    running = make_task("shop.tasks.named", Status.RUNNING, attempt=1).pk
    ended = make_task("shop.tasks.named", Status.SUCCESSFUL).pk
    make_task("shop.tasks.other", Status.FAILED, error_fingerprint="f", error_type="E")

    for query in ({"show": "failed"}, {"status": "FAILED"}, {"error": "E"}, {"fingerprint": "f"}):
        assert find(name="shop.tasks.named", **query) == {failed, by_alias}
        assert find(name="shop.tasks.alias", **query) == {by_alias}
    assert find(name="shop.tasks.named", show="live") == {running}
    assert find(name="shop.tasks.named", status="SUCCESSFUL") == {ended}


@pytest.mark.parametrize("query", [{"show": "failed"}, {"status": "FAILED"}, {"fingerprint": "f"}, {"error": "E"}])
def test_failures_of_a_function_take_no_look_at_its_other_tasks(client, transactional_db, query):
    """The work does not depend on the database's statistics of names."""
    many = [BackgroundTask(name="shop.tasks.many", status="SUCCESSFUL", created_at=timezone.now()) for _ in range(3000)]
    BackgroundTask.objects.bulk_create(many)
    for _ in range(20):
        make_task("shop.tasks.many", Status.FAILED, error_fingerprint="f", error_type="E")
    for number in range(70):
        make_task(f"shop.tasks.number_{number}", list(Status)[number % len(Status)])
    tables.analyze()
    rows_of(client, name="shop.tasks.many", **query)  # Some queries run only once.

    work = tables.count_work(lambda: rows_of(client, name="shop.tasks.many", **query))
    without_tasks = tables.count_work(lambda: rows_of(client, name="shop.tasks.none", **query))

    assert work - without_tasks < len(many)


def test_declared_queues_are_offered(client, declare):
    def nothing() -> None: ...

    declare(nothing, name="shop.tasks.nothing", queue="imports")

    body = text_of(client)

    assert "imports</option>" in body
    assert "default</option>" in body


@pytest.mark.parametrize("show", ["", "live"])
def test_filter_by_process(find, show):
    process = uuid4()
    running = make_task(status=Status.RUNNING, process=process, attempt=1).pk
    ended = make_task(process=process).pk
    make_task(process=uuid4())

    assert find(process=process, show=show) == ({running} if show else {running, ended})


@pytest.mark.parametrize("field", FIELDS)
def test_hostile_filters_are_no_errors(client, field):
    make_task(queue_name=HOSTILE, release=HOSTILE, error_type=HOSTILE, fired_by={"user_id": HOSTILE})

    for value in ODD:
        answer = client.get(LIST, {field: value, "show": "failed"})

        assert answer.status_code == 200, value[:50]
        assert b"<script>alert" not in answer.content
        assert b"<img src=x" not in answer.content


def test_what_no_index_knows_is_looked_for_among_the_newest(find, client, monkeypatch):
    monkeypatch.setattr(search_window, "RECENT", 3)
    process = uuid4()
    more = {"queue_name": "slow", "release": "1", "fired_by": {"user_id": 7}, "process": process, "kwargs": {"a": 1}}
    make_task(**more)
    [newer, *_] = [make_task(**more).pk, make_task().pk, make_task().pk]
    queries = [{"queue": "slow"}, {"release": "1"}, {"user": "7"}, {"process": process}, {"q": "args.a:1"}]

    for query in queries:
        assert find(**query) == {newer}
        assert "Only the newest 3 tasks are searched" in text_of(client, **query)
    assert "Only the newest" not in text_of(client, status="FAILED")


def test_errors_are_looked_for_among_the_newest_that_failed(find, client, monkeypatch):
    monkeypatch.setattr(search_window, "RECENT_FAILED", 2)
    error = {"error_type": "E", "error_fingerprint": "f"}
    lost = make_task(status=Status.LOST, **error).pk
    _old, *failed = [make_task(**error).pk for _ in range(3)]
    for _ in range(5):
        make_task(status=Status.SUCCESSFUL)

    for query in ({"error": "E"}, {"fingerprint": "f"}):
        assert find(**query) == {lost, *failed}
        assert "Only the newest 2 tasks that failed" in text_of(client, **query)


def test_what_was_lost_with_a_process_is_looked_for_among_the_newest_that_were(find, monkeypatch):
    monkeypatch.setattr(search_window, "RECENT", 1)
    process = uuid4()
    lost = make_task(status=Status.LOST, process=process).pk
    for _ in range(3):
        make_task(status=Status.SUCCESSFUL, process=process)

    assert find(process=process, status="LOST") == {lost}
    assert find(process=process, show="failed") == {lost}


def test_filters_ask_as_much_of_many_rows_as_of_one(client, monkeypatch):
    monkeypatch.setattr(paginator, "FEW", 3)
    everything = {"queue": "slow", "release": "1", "user": "7", "error": "E", "fingerprint": "f", "q": "args.a:1"}

    def ask() -> int:
        with CaptureQueriesContext(connection) as queries:
            rows_of(client, **everything)
        return len(queries)

    def make() -> BackgroundTask:
        more = {"queue_name": "slow", "release": "1", "fired_by": {"user_id": 7}, "kwargs": {"a": 1}}
        return make_task(**more, error_type="E", error_fingerprint="f")

    for _ in range(4):
        make()
    ask()
    few = ask()
    for _ in range(60):
        make()

    assert ask() == few <= 18


# Arguments.


@pytest.fixture
def argued(declare: Any) -> dict[str, UUID]:
    def send(user_id: int, subject: str = "", *, copy: bool = False) -> None: ...

    declare(send, name="shop.tasks.send")
    rows = {
        "by_position": make_task("shop.tasks.send", args=[5, "hello"]),
        "by_keyword": make_task("shop.tasks.send", kwargs={"user_id": 5, "copy": True}),
        "as_text": make_task("shop.tasks.send", args=["5"]),
        "of_another": make_task("shop.tasks.unknown", args=[5], kwargs={"subject": "hello"}),
        "none": make_task("shop.tasks.send", args=[55, "5"], kwargs={"rate": 2.5}),
    }
    make_task(args={"user_id": 5}, kwargs=[5])  # Odd values.
    return {name: row.pk for name, row in rows.items()}


@pytest.mark.parametrize(
    ("term", "names"),
    [
        ("args.user_id:5", {"by_position", "by_keyword", "as_text"}),
        ("kwargs.user_id:5", {"by_position", "by_keyword", "as_text"}),
        ('args.user_id:"5"', {"as_text"}),
        ("  args.user_id: 5 ", {"by_position", "by_keyword", "as_text"}),
        ("args.subject:hello", {"by_position", "of_another"}),
        ("args.0:5", {"by_position", "as_text", "of_another"}),
        ("args.copy:true", {"by_keyword"}),
        ("args.rate:2.5", {"none"}),
        ("args.user_id:6", set()),
        ("args.nobody:5", set()),
        ("args.0:5 OR 1=1", set()),
    ],
)
def test_search_for_an_argument(find, argued, term, names):
    if connection.vendor == "mysql" and term == 'args.user_id:"5"':
        names = {*names, "by_position", "by_keyword"}  # In MariaDB a JSON number equals its text.

    assert find(q=term) == {argued[name] for name in names}


@pytest.mark.parametrize("term", ["args.user_id:5", "kwargs.subject:hello", "args.0:5"])
def test_who_may_not_view_arguments_finds_none_by_them(argued, find, term):
    client = log_in("cancel_task", name="half")

    assert find(client, q=term) == set()
    assert "takes the permission to view them: bgtasks.view_task_args." in text_of(client, q=term)
    assert "bgtasks.view_task_args" not in text_of(client, q="shop.tasks")


@pytest.mark.parametrize("term", ["args.", "args.user_id", "kwargs.user_id=5"])
def test_half_a_search_for_an_argument_says_how_it_is_written(client, term):
    assert "args.user_id:5, args.0:5." in text_of(client, q=term)
    assert "args.0:5." not in text_of(client, q="args.user_id:5")


@pytest.mark.parametrize(
    "term",
    [
        *(f"args.user_id:{value}" for value in (*ODD, "null", "[1]", "{}", "NaN", "1e999", "[" * 190, '"\\ud800"')),
        *(f"args.{name}:5" for name in ("user__contains", "0__gt", "x" * 100, "ä", "٣", "9999", "_", "-1", "a b")),
        *("args.:5", "args.a", "kwargs.a:", "args.a:b:c", 'args."a":5', "args.$.a:5", "args.a'--:5", "args.a\n:5"),
    ],
    ids=lambda term: ascii(term)[:40],
)
def test_hostile_arguments_are_no_errors(client, argued, term):
    answer = client.get(LIST, {"q": term})

    assert answer.status_code == 200
    assert b"<script>alert" not in answer.content
