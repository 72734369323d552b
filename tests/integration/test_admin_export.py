"""The export of a filtered list: its columns, its permissions, and that it is safe, bounded and streamed."""

from __future__ import annotations

import csv
import io
import json
from typing import Any
from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import connection
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext

from bgtasks.admin.shared import paginator, search_window
from bgtasks.admin.tasks import export
from bgtasks.definition.sensitive import MARK
from bgtasks.status import Status
from tests.integration.test_admin_actions import HOSTILE, LIST, NULL, log_in, make_task

pytestmark = pytest.mark.django_db

EXPORT = f"{LIST}export/"


@pytest.fixture
def client(db: None) -> Client:
    return log_in("view_task_args")


def fetch(client: Client, kind: str, **query: Any) -> str:
    answer = client.get(EXPORT, {"format": kind, **query})
    assert answer.status_code == 200
    assert answer.streaming
    return b"".join(answer.streaming_content).decode()


def read_csv(client: Client, **query: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(fetch(client, "csv", **query), newline="")))


def read_json(client: Client, **query: Any) -> dict[str, Any]:
    return json.loads(fetch(client, "json", **query))


def test_both_hold_the_rows_newest_first(client):
    process = uuid4()
    first = make_task(key="k", process=process, priority=-5, release="2026.1", queue_name="slow", args=[1, "ä\n,"])
    second = make_task(
        status=Status.FAILED,
        kwargs={"a": None},
        error_type="E",
        error_message='no "answer",\nnever',
        fired_by={"user_id": 7},
    )

    lines, found = read_csv(client), read_json(client)

    assert [line["id"] for line in lines] == [row["id"] for row in found["tasks"]] == [str(second.pk), str(first.pk)]
    assert (found["count"], found["cut"], found["notes"]) == (2, False, [])
    newer, older = found["tasks"]
    assert (older["key"], older["process"], older["priority"], older["release"]) == ("k", str(process), -5, "2026.1")
    assert (older["args"], older["kwargs"], newer["kwargs"]) == ([1, "ä\n,"], {}, {"a": None})
    assert (newer["error_message"], newer["fired_by"]) == ('no "answer",\nnever', {"user_id": 7})
    assert (lines[1]["priority"], lines[1]["queue_name"], json.loads(lines[1]["args"])) == ("-5", "slow", [1, "ä\n,"])
    assert lines[0]["error_message"] == 'no "answer",\nnever'
    assert lines[0]["created_at"] == second.created_at.isoformat()
    assert lines[0]["run_after"] == ""
    assert "traceback" not in lines[0]


def test_it_holds_what_the_filter_matches(client):
    wanted = make_task("shop.tasks.charge", Status.FAILED, error_type="E", kwargs={"a": 1})
    make_task("shop.tasks.charge", Status.LOST)
    make_task(status=Status.SUCCESSFUL)

    for query in ({"error": "E"}, {"q": "args.a:1"}, {"status": "FAILED", "before": str(uuid4())}):
        assert [row["id"] for row in read_json(client, **query)["tasks"]] == [str(wanted.pk)]
    assert read_csv(client, name="nothing") == []
    assert read_json(client, name="nothing") == {"tasks": [], "count": 0, "cut": False, "notes": []}


def test_the_list_links_to_it_with_its_filter(client):
    make_task(status=Status.FAILED)

    body = client.get(LIST, {"status": "FAILED", "before": "x", "q": ""}).content.decode()

    for kind in ("csv", "json"):
        assert f'href="{EXPORT}?status=FAILED&amp;format={kind}"' in body


def test_arguments_are_for_those_who_may_view_them(client):
    make_task(args=["secret"], kwargs={"token": "secret"})
    viewer = log_in(name="viewer")

    assert "secret" in fetch(client, "csv")
    for kind in ("csv", "json"):
        assert "secret" not in fetch(viewer, kind)
        assert "kwargs" not in fetch(viewer, kind)
    assert read_json(viewer, q="args.0:secret")["tasks"] == []


def test_what_is_sealed_stays_hidden(client):
    sealed = {MARK: "gAAAA"}
    make_task(args=[sealed, 1], kwargs={"token": sealed})
    make_task(args=NULL, kwargs=NULL)

    text = fetch(client, "json")

    assert "gAAAA" not in text
    assert [row["args"] for row in json.loads(text)["tasks"]] == [None, ["[sensitive]", 1]]


def test_it_takes_the_permission_to_view(db):
    User.objects.create(username="staff", is_staff=True)
    client = Client()

    assert "/login/" in client.get(EXPORT, {"format": "csv"})["Location"]
    client.force_login(User.objects.get())
    assert client.get(EXPORT, {"format": "csv"}).status_code == 403
    assert log_in(name="viewer").get(EXPORT, {"format": "csv"}).status_code == 200


def test_headers_make_it_a_file(client):
    for kind, content_type in (("csv", "text/csv; charset=utf-8"), ("json", "application/json")):
        answer = client.get(EXPORT, {"format": kind})

        assert answer["Content-Type"] == content_type
        assert answer["Content-Disposition"].startswith('attachment; filename="background-tasks-20')
        assert answer["Content-Disposition"].endswith(f'.{kind}"')
        assert answer["X-Content-Type-Options"] == "nosniff"
        assert "no-store" in answer["Cache-Control"]


@pytest.mark.parametrize("query", [{}, {"format": "xml"}, {"format": "\x00"}, {"format": "csv", "x": "y"}])
def test_what_is_no_export_is_refused(client, query):
    assert client.get(EXPORT, query).status_code == 400
    assert client.post(EXPORT, query).status_code == 405


@pytest.mark.parametrize("field", ["q", "name", "finished", "user", "before"])
def test_hostile_filters_are_no_errors(client, field):
    make_task()

    for value in ("\x00", HOSTILE, "9" * 5000, "args.a:\x00"):
        fetch(client, "csv", **{field: value})


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "  =1", "＝1"])
def test_no_cell_is_a_formula(client, text):
    make_task(text, key=text, error_message=text, release=text, args=[text], fired_by=text)

    [line] = read_csv(client)
    [row] = read_json(client)["tasks"]

    for column in ("name", "key", "error_message", "release"):
        assert line[column] == f"'{text}"
        assert row[column] == text


def test_it_says_where_it_has_not_looked(client, monkeypatch):
    monkeypatch.setattr(search_window, "RECENT", 2)
    rows = [make_task(release="1") for _ in range(3)]

    lines, found = fetch(client, "csv", release="1").splitlines(), read_json(client, release="1")

    assert [row["id"] for row in found["tasks"]] == [str(row.pk) for row in reversed(rows)][:2]
    assert [note[:23] for note in found["notes"]] == ["Only the newest 2 tasks"]
    assert "# Only the newest 2 tasks" in lines[-1]


@pytest.mark.parametrize("few", [2, 1000])
@pytest.mark.parametrize(("count", "is_cut"), [(6, False), (7, True)])
def test_it_is_cut_and_says_so(client, monkeypatch, few, count, is_cut):
    monkeypatch.setattr(paginator, "FEW", few)
    monkeypatch.setattr(export, "MAX_ROWS", 6)
    monkeypatch.setattr(export, "BATCH", 3)
    rows = [make_task() for _ in range(count)]

    lines, found = fetch(client, "csv").splitlines(), read_json(client)

    assert [row["id"] for row in found["tasks"]] == [str(row.pk) for row in reversed(rows)][:6]
    assert found["count"] == 6
    assert found["cut"] is is_cut
    assert [note[:23] for note in found["notes"]] == ["Only the newest 6 tasks"] * is_cut
    assert len(lines) == 7 + is_cut
    assert ("# Only the newest 6 tasks" in lines[-1]) is is_cut


def test_rows_are_read_a_few_at_a_time(client, monkeypatch):
    monkeypatch.setattr(paginator, "FEW", 2)
    monkeypatch.setattr(export, "BATCH", 3)
    for _ in range(10):
        make_task()

    with CaptureQueriesContext(connection) as queries:
        read_json(client)

    assert sum("LIMIT 3" in each["sql"] for each in queries) == 5  # Are they few? Then 3, 3, 3, 1.
    assert not any("OFFSET" in each["sql"] or "traceback" in each["sql"] for each in queries)


@pytest.mark.django_db(transaction=True)
async def test_under_asgi_it_is_streamed_too():
    """There Django gathers a plain iterator in memory with a warning, which fails a test."""

    def prepare() -> User:
        for number in range(5):
            make_task(f"shop.tasks.number_{number}")
        log_in(name="viewer")
        return User.objects.get(username="viewer")

    user = await sync_to_async(prepare)()
    client = AsyncClient()
    await client.aforce_login(user)

    answer = await client.get(EXPORT, {"format": "json"})
    parts = [part async for part in answer.streaming_content]

    assert answer.is_async
    assert json.loads(b"".join(parts))["count"] == 5
