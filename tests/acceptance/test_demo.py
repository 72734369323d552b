"""The demo as its users see it: a server process, its answers, its pages, and the ledger of `make smoke`."""

from __future__ import annotations

import doctest
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from bgtasks_project.smoke.evidence import read_arrivals, read_drains, read_process_states, read_reports, read_rows
from bgtasks_project.smoke.ledger import Arrival, Fired, Ledger, Row, Stop
from bgtasks_project.smoke.processes import ROOT, ProcessFailed, Server, receiver
from bgtasks_project.smoke.receivers import digest
from bgtasks_project.templatetags import demo as templatetags
from tests.waiting import wait_for

pytestmark = pytest.mark.databases("sqlite")  # The demo has a file of its own.

# The ledger: each of its checks must be able to fail.


def balanced() -> Ledger:
    """Return the ledger of a small run without problems: one task of each kind and end."""
    ends = {
        "m1": ("mail", "ada@example.com", "SUCCESSFUL"),
        "m2": ("mail", "bounce@example.com", "FAILED"),
        "w1": ("webhook", "digest 1", "SUCCESSFUL"),
        "w2": ("webhook", "digest 2", "FAILED"),
        "w3": ("webhook", "digest 3", "INTERRUPTED"),
        "r1": ("report", "1", "SUCCESSFUL"),
        "r2": ("report", "2", "CANCELLED"),
        "o1": ("other", "", "SUCCESSFUL"),
    }
    expected = {"INTERRUPTED": "SUCCESSFUL", "CANCELLED": "SUCCESSFUL"}
    return Ledger(
        fired=[Fired(id, kind, key, expected.get(end, end)) for id, (kind, key, end) in ends.items()],
        rows=[Row(id, f"tasks.{kind}", end, ("RUNNING", end)) for id, (kind, _, end) in ends.items()],
        arrivals=[
            Arrival("mail", "m1", "ada@example.com"),
            Arrival("mail", "", "bounce@example.com", is_refused=True),
            Arrival("webhook", "w1", "digest 1"),
            Arrival("webhook", "w2", "digest 2", is_refused=True),
            Arrival("webhook", "w3", "digest 3"),
            Arrival("report", "", "1"),
        ],
        stop=Stop(
            seconds=5.0,
            allowed_seconds=20.0,
            process_states=("STOPPED",),
            drains=({"running_at_start": 3, "finished_count": 1, "cancelled_count": 2, "left_count": 0},),
        ),
        answers={"POST /signup 202": 8},
    )


def change_row(ledger: Ledger, id: str, status: str) -> Ledger:
    rows = [
        replace(row, status=status, history=("RUNNING", status)) if row.task_id == id else row for row in ledger.rows
    ]
    return replace(ledger, rows=rows)


TAMPERED = {
    "a row is missing": (
        lambda good: replace(good, rows=good.rows[1:]),
        {"every fired task has exactly one row", "every task ended as expected, or was cut short"},
    ),
    "a row is there twice": (
        lambda good: replace(good, rows=[*good.rows, good.rows[0]]),
        {"every fired task has exactly one row"},
    ),
    "a row that nobody fired": (
        lambda good: replace(good, rows=[*good.rows, Row("x", "tasks.x", "SUCCESSFUL", ("SUCCESSFUL",))]),
        {"every row was fired by a request"},
    ),
    "one id was answered twice": (
        lambda good: replace(good, fired=[*good.fired, good.fired[-1]]),
        {"every fired task has exactly one row"},
    ),
    "a row that is still live": (
        lambda good: change_row(good, "o1", "RUNNING"),
        {"every row is in a final state", "every task ended as expected, or was cut short"},
    ),
    "a history that ends twice": (
        lambda good: replace(good, rows=[*good.rows[:-1], replace(good.rows[-1], history=("FAILED", "SUCCESSFUL"))]),
        {"every history ends once, with the row's status"},
    ),
    "a mail that arrived twice": (
        lambda good: replace(good, arrivals=[*good.arrivals, good.arrivals[0]]),
        {"every SUCCESSFUL task arrived once"},
    ),
    "a mail that never arrived": (
        lambda good: replace(good, arrivals=good.arrivals[1:]),
        {"every SUCCESSFUL task arrived once"},
    ),
    "a report without a file": (
        lambda good: replace(good, arrivals=good.arrivals[:-1]),
        {"every SUCCESSFUL task arrived once"},
    ),
    "a FAILED delivery that arrived": (
        lambda good: replace(good, arrivals=[*good.arrivals, Arrival("webhook", "w2", "digest 2")]),
        {"no FAILED task arrived"},
    ),
    "a FAILED row of what had to succeed": (
        lambda good: change_row(good, "w1", "FAILED"),
        {"every task ended as expected, or was cut short", "no FAILED task arrived"},
    ),
    "cut short, and arrived twice": (
        lambda good: replace(good, arrivals=[*good.arrivals, good.arrivals[4]]),
        {"every task that was cut short arrived at most once"},
    ),
    "an arrival that nobody fired": (
        lambda good: replace(good, arrivals=[*good.arrivals, Arrival("mail", "x", "eve@example.com")]),
        {"every arrival was fired"},
    ),
    "other content than was sent": (
        lambda good: replace(good, arrivals=[*good.arrivals[:2], Arrival("webhook", "w1", "?"), *good.arrivals[3:]]),
        {"every arrival has the content that was sent"},
    ),
    "a process that never stopped": (
        lambda good: replace(good, stop=replace(good.stop, process_states=("ALIVE",))),
        {"the process stopped in time and says so"},
    ),
    "a server that hung": (
        lambda good: replace(good, stop=replace(good.stop, seconds=21.0)),
        {"the process stopped in time and says so"},
    ),
    "no drain": (
        lambda good: replace(good, stop=replace(good.stop, drains=())),
        {"one drain is recorded, and its numbers are those of the rows"},
    ),
    "a drain that counts other than the rows": (
        lambda good: change_row(good, "w3", "SUCCESSFUL"),
        {"one drain is recorded, and its numbers are those of the rows"},
    ),
    "a wrong answer": (
        lambda good: replace(good, surprises=["POST /signup: 500, expected 202"]),
        {"every request was answered as expected"},
    ),
}


def test_ledger_of_a_good_run_balances():
    ledger = balanced()

    assert [check for check in ledger.checks if not check.holds] == []
    assert ledger.balances


@pytest.mark.parametrize("what", TAMPERED)
def test_ledger_names_what_does_not_balance(what):
    tamper, broken = TAMPERED[what]

    ledger = tamper(balanced())

    assert {check.claim for check in ledger.checks if not check.holds} == broken
    assert not ledger.balances


# The demo server.


@dataclass
class Demo:
    server: Server
    http: httpx.Client
    webhooks: str
    mail_log: Path
    webhook_log: Path


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Iterator[Demo]:
    folder = tmp_path_factory.mktemp("demo")
    mail_log, webhook_log = folder / "mail.jsonl", folder / "webhooks.jsonl"
    with ExitStack() as stack:
        mail_port = stack.enter_context(receiver("mail", mail_log))
        webhook_port = stack.enter_context(receiver("webhooks", webhook_log))
        server = Server(folder, DEMO_SMTP_HOST="127.0.0.1", DEMO_SMTP_PORT=str(mail_port), DEMO_DRAIN_TIMEOUT="2")
        stack.callback(server.kill)
        server.manage("migrate", "--verbosity", "0")
        server.start()
        http = stack.enter_context(httpx.Client(base_url=server.address, timeout=30))
        yield Demo(server, http, f"http://127.0.0.1:{webhook_port}", mail_log, webhook_log)


def subscribe(demo: Demo, topic: str, path: str) -> None:
    answer = demo.http.post("/subscriptions", json={"topic": topic, "url": f"{demo.webhooks}/{path}"})
    assert answer.status_code == 201, answer.text


def find_row(demo: Demo, task_id: str) -> Row | None:
    return next((row for row in read_rows(demo.server.database) if row.task_id == task_id), None)


def csrf_token(demo: Demo) -> str:
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', demo.http.get("/").text)
    assert found
    return found[1]


def test_signup_is_recorded_before_it_is_answered(demo):
    answer = demo.http.post("/signup", json={"email": "Recorded@Example.com"})

    assert answer.status_code == 202
    assert find_row(demo, answer.json()["task_id"]) is not None


def test_second_signup_is_a_conflict(demo):
    demo.http.post("/signup", json={"email": "twice@example.com"})

    answer = demo.http.post("/signup", json={"email": "TWICE@example.com"})

    assert (answer.status_code, answer.json()) == (409, {"error": "twice@example.com is signed up already."})


@pytest.mark.parametrize(
    ("content", "status", "says"),
    [
        (b"", 400, "not JSON"),
        (b"{", 400, "not JSON"),
        (b"\xff", 400, "not JSON"),
        (b"[1]", 400, "not a JSON object"),
        (b"{}", 400, "email: This field is required."),
        (b'{"email": "nobody@"}', 400, "email: Enter a valid email address."),
        (b'{"email": {"a": 1}}', 400, "email: Enter a valid email address."),
        (b'{"email": "a@example.com\\nBcc: b@example.com"}', 400, "email: Enter a valid email address."),
        (b'{"email": "' + b"a" * 300_000 + b'"}', 413, "longer than"),
        (b" " * 3_000_000, 413, "longer than"),
    ],
)
def test_signup_says_what_is_wrong(demo, content, status, says):
    answer = demo.http.post("/signup", content=content)

    assert answer.status_code == status
    assert says in answer.json()["error"]


@pytest.mark.parametrize("url", ["ftp://example.com/", "javascript:alert(1)", "example.com", "", None, "http://"])
def test_subscription_takes_web_addresses_only(demo, url):
    answer = demo.http.post("/subscriptions", json={"topic": "orders", "url": url})

    assert answer.status_code == 400
    assert list(answer.json()["fields"]) == ["url"]


def test_subscribing_twice_changes_nothing(demo):
    wanted = {"topic": "same", "url": "https://example.com/hook"}

    answers = [demo.http.post("/subscriptions", json=wanted) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [201, 200]
    assert answers[0].json() == answers[1].json()


@pytest.mark.parametrize("payload", [None, [], {"a": [1.5, 10**40, "👩🏽‍💻\u2028", None]}, "x" * 100_000])
def test_hook_delivers_any_json_as_it_came(demo, payload):
    topic = f"any-{digest(payload)}"
    subscribe(demo, topic, f"ok/{topic}")
    subscribe(demo, topic, f"ok/{topic}/too")

    answer = demo.http.post(f"/hooks/{topic}", content=json.dumps(payload))

    assert answer.status_code == 202
    ids = {delivery["task_id"] for delivery in answer.json()["deliveries"]}
    assert len(ids) == 2

    def have_arrived() -> bool:
        return ids <= {arrival.task_id for arrival in read_arrivals("webhook", demo.webhook_log)}

    wait_for(have_arrived, "both webhooks have arrived")
    arrived = [arrival for arrival in read_arrivals("webhook", demo.webhook_log) if arrival.task_id in ids]
    assert [arrival.key for arrival in arrived] == [digest(payload)] * 2


@pytest.mark.parametrize("content", [b"", b"{'a': 1}", b"NaN", b"1e999", b'"\\ud800"', b"[" * 100_000])
def test_hook_refuses_what_is_no_json(demo, content):
    answer = demo.http.post("/hooks/orders", content=content)

    assert answer.status_code == 400
    assert "not JSON" in answer.json()["error"]


@pytest.mark.parametrize("content", [b"[" * 60 + b"]" * 60, b'{"a": "\\u0000"}'])
def test_hook_says_what_cannot_be_stored(demo, content):
    """JSON that a database cannot store is refused, and no task is fired."""
    topic = f"odd-{len(content)}"
    subscribe(demo, topic, "ok/odd")

    answer = demo.http.post(f"/hooks/{topic}", content=content)

    assert answer.status_code == 400
    assert "cannot be delivered" in answer.json()["error"]


def test_largest_hook_is_taken_and_a_larger_one_refused(demo):
    subscribe(demo, "large", "ok/large")
    most = 200 * 1024

    answers = [demo.http.post("/hooks/large", content=b'"' + b"a" * (size - 2) + b'"') for size in (most, most + 1)]

    assert [answer.status_code for answer in answers] == [202, 413]


@pytest.mark.parametrize("path", ["/signup", "/subscriptions", "/hooks/orders", "/reports", "/press/quick"])
def test_post_only(demo, path):
    assert demo.http.get(path).status_code == 405


@pytest.mark.parametrize("path", ["/", "/live", "/notify-now"])
def test_get_only(demo, path):
    answer = demo.http.post(path, headers={"X-CSRFToken": csrf_token(demo)})

    assert answer.status_code == 405


def test_report_writes_its_file(demo):
    answer = demo.http.post("/reports", json={"seconds": 0.1})

    assert answer.status_code == 202
    number = str(answer.json()["report"])
    folder = demo.server.folder / "reports"
    wait_for(lambda: number in {arrival.key for arrival in read_reports(folder)}, "the report has arrived")
    assert (folder / f"report-{number}.csv").read_text().startswith("day,signups,tasks,failed\n")


def test_report_refuses_an_endless_one(demo):
    assert demo.http.post("/reports", json={"seconds": 1e9}).status_code == 400


def test_notify_now_answers_with_the_outcome(demo):
    for topic, path in {"now-ok": "ok/now", "now-refused": "refuse/now", "now-slow": "slow/now"}.items():
        subscribe(demo, topic, path)

    delivered = demo.http.get("/notify-now?topic=now-ok")
    refused = demo.http.get("/notify-now?topic=now-refused")
    slow = demo.http.get("/notify-now?topic=now-slow&timeout=0.1")
    nobody = demo.http.get("/notify-now?topic=now-nobody")

    assert (delivered.status_code, delivered.json()["delivered"]) == (200, 200)
    assert refused.status_code == 502
    assert "500 Internal Server Error" in refused.json()["error"]
    assert slow.status_code == 202
    assert nobody.status_code == 404
    rows = {answer.json()["task_id"]: "SUCCESSFUL" for answer in (delivered, slow)}
    rows[refused.json()["task_id"]] = "FAILED"
    wait_for(lambda: {id: row.status for id in rows if (row := find_row(demo, id))} == rows, "the rows are as expected")


def test_visitor_who_goes_away_ends_the_waiting_and_not_the_task(demo):
    def find_notified() -> set[str]:
        arrivals = read_arrivals("webhook", demo.webhook_log)
        return {arrival.task_id for arrival in arrivals if arrival.key == digest({"notify": "now"})}

    subscribe(demo, "left", "slow/left")
    before = find_notified()

    with pytest.raises(httpx.ReadTimeout):
        demo.http.get("/notify-now?topic=left&timeout=30", timeout=1)

    (task_id,) = find_notified() - before
    wait_for(lambda: (row := find_row(demo, task_id)) and row.status == "SUCCESSFUL", "the task is successful")


def test_buttons_need_the_token(demo):
    with httpx.Client(base_url=demo.server.address) as stranger:
        assert stranger.post("/press/quick").status_code == 403


@pytest.mark.parametrize(("button", "ends"), [("quick", "SUCCESSFUL"), ("failing", "FAILED")])
def test_button_fires(demo, button, ends):
    headers = {"X-CSRFToken": csrf_token(demo), "Accept": "application/json"}

    answer = demo.http.post(f"/press/{button}", headers=headers)

    assert answer.status_code == 202
    (task_id,) = answer.json()["task_ids"]
    wait_for(lambda: (row := find_row(demo, task_id)) and row.status == ends, "the task has ended")


def test_button_without_script_leads_back_to_the_page(demo):
    answer = demo.http.post("/press/quick", data={"csrfmiddlewaretoken": csrf_token(demo)})

    assert (answer.status_code, answer.headers["Location"]) == (302, "/")


def test_unknown_button_is_not_found(demo):
    assert demo.http.post("/press/doomsday", headers={"X-CSRFToken": csrf_token(demo)}).status_code == 404


def test_start_page_escapes_what_people_sent(demo):
    demo.http.post("/subscriptions", json={"topic": "x", "url": "http://example.com/<script>alert(1)</script>"})

    page = demo.http.get("/").text

    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


def test_pages_take_nothing_from_elsewhere(demo):
    page = demo.http.get("/").text

    sources = re.findall(r'(?:src|href)="((?!data:,)[^"]+)"', page)
    own = [source for source in sources if source.startswith("/") and not source.startswith("//")]
    assert own == sources
    styles = [source for source in sources if source.endswith((".css", ".js"))]
    assert [demo.http.get(style).status_code for style in styles] == [200, 200]


def test_demo_admin_is_made_once_and_kept(demo):
    said = [demo.server.manage("make_demo_admin", "--port", "8123") for _ in range(2)]

    assert said[0] == said[1]
    assert "http://127.0.0.1:8123/admin/   name: demo   password: demo" in said[0]


def test_demo_admin_is_refused_outside_debug(tmp_path):
    server = Server(tmp_path, DEMO_DEBUG="false", DEMO_SECRET_KEY="secret")

    with pytest.raises(ProcessFailed, match="for DEBUG only"):
        server.manage("make_demo_admin")


def test_sigterm_drains_and_says_what_was_cut_short(tmp_path):
    server = Server(tmp_path, DEMO_DRAIN_TIMEOUT="1")
    server.manage("migrate", "--verbosity", "0")
    server.start()
    try:
        with httpx.Client(base_url=server.address, timeout=30) as http:
            signup = http.post("/signup", json={"email": "ada@example.com"}).json()["task_id"]
            report = http.post("/reports", json={"seconds": 60}).json()["task_id"]
        server.terminate()
        stopped = server.wait(20)
    finally:
        server.kill()

    assert stopped, server.log.read_text()
    rows = {row.task_id: row.status for row in read_rows(server.database)}
    assert rows == {signup: "SUCCESSFUL", report: "INTERRUPTED"}
    assert read_process_states(server.database) == ("STOPPED",)
    (drain,) = read_drains(server.database)
    assert drain["cancelled_count"] == 1
    assert "make_report" in server.log.read_text()
    (mail,) = (tmp_path / "mail").iterdir()
    assert f"X-Task-ID: {UUID(signup)}" in mail.read_text()


def test_examples_in_docstrings_are_true():
    outcome = doctest.testmod(templatetags)

    assert (outcome.attempted > 0, outcome.failed) == (True, 0)


# The smoke run.


def smoke(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "DJANGO_SETTINGS_MODULE"}
    command = [sys.executable, "-m", "bgtasks_project.smoke", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=110)


@pytest.mark.slow
def test_smoke_balances():
    done = smoke("--requests", "60", "--format", "json")

    ledger = json.loads(done.stdout)
    assert [check for check in ledger["checks"] if not check["holds"]] == []
    assert done.returncode == 0
    assert ledger["requests"] >= 60


@pytest.mark.parametrize(
    "arguments", [["--requests", "1"], ["--requests", "many"], ["--format", "xml"], ["--surprise"]]
)
def test_smoke_refuses_misuse(arguments):
    assert smoke(*arguments).returncode == 2
