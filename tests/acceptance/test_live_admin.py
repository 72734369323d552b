"""The admin's pages while tasks run: in a browser, on a server, over a WebSocket or without."""

from __future__ import annotations

import json
import re
import time
from contextlib import closing

import httpx
import pytest
from playwright.sync_api import Page, expect

from bgtasks_project.smoke.evidence import read_rows
from bgtasks_project.smoke.processes import Server as Demo
from tests.browsers import (
    LIVE,
    OVERVIEW,
    ROOT,
    WAIT,
    OpenAs,
    fire_report,
    is_the_same,
    needs_browser,
    open_pushed,
    row_of,
    wait_until_it_grows,
)
from tests.sockets import PATH, Socket
from tests.staff import cookie_of

# The demo has a file of its own.
pytestmark = [pytest.mark.slow, pytest.mark.databases("sqlite"), needs_browser]

PUSHED = 4000  # Milliseconds. Without a push the page asks every 5 s: a change that it shows earlier was pushed.


def press(demo: Demo, button: str) -> list[str]:
    """Press a button of the demo's start page; return the ids of the tasks."""
    with httpx.Client(base_url=demo.address, timeout=60) as client:
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', client.get("/").text)
        assert token
        headers = {"Accept": "application/json", "X-CSRFToken": token[1], "Referer": demo.address}
        answer = client.post(f"/press/{button}", headers=headers)
    assert answer.status_code == 202, answer.text
    return answer.json()["task_ids"]


def test_a_task_appears_grows_and_ends_in_the_page(demo: Demo, open_as: OpenAs) -> None:
    page = open_pushed(open_as("viewer"), LIVE)

    [task_id] = press(demo, "slow")

    expect(row_of(page, task_id)).to_be_visible(timeout=PUSHED)
    wait_until_it_grows(page, task_id)
    expect(row_of(page, task_id)).to_have_count(0, timeout=WAIT)
    assert is_the_same(page)


def test_the_overview_shows_a_task_and_its_end(demo: Demo, open_as: OpenAs) -> None:
    page = open_pushed(open_as("demo"), OVERVIEW)
    expect(page.locator(".bgtasks-tile-unaccounted [data-bgtasks-loaded]")).to_have_text("0")

    [task_id] = press(demo, "slow")

    bar = page.locator(f'.bgtasks-lane a[href$="{task_id}/change/"] rect.bgtasks-lane-bar')
    expect(bar).to_have_class(re.compile("bgtasks-is-running"), timeout=PUSHED)
    expect(bar).to_have_class(re.compile("bgtasks-is-successful"), timeout=WAIT)
    assert is_the_same(page)


def test_a_task_is_cancelled_from_the_live_page(demo: Demo, open_as: OpenAs) -> None:
    fired = fire_report(demo)
    page = open_pushed(open_as("demo"), LIVE)

    row_of(page, fired.id).get_by_role("button", name="Cancel").click()

    expect(page.locator(".messagelist")).to_contain_text("1 task is asked to stop")
    expect(row_of(page, fired.id)).to_have_count(0, timeout=WAIT)
    assert {row.task_id: row.status for row in read_rows(demo.database)}[fired.id] == "CANCELLED"


def test_a_task_is_cancelled_and_fired_again(demo: Demo, open_as: OpenAs) -> None:
    fired = fire_report(demo)
    before = {row.task_id for row in read_rows(demo.database)}
    page = open_as("demo")
    page.goto(LIVE)

    row_of(page, fired.id).get_by_role("checkbox").check()
    page.get_by_role("button", name="Cancel and fire again").click()

    expect(page.locator(".messagelist")).to_contain_text("1 task is fired again")
    rows = {row.task_id: row for row in read_rows(demo.database)}
    assert rows[fired.id].status == "CANCELLED"
    [again] = {id_ for id_, row in rows.items() if row.name.endswith("make_report")} - before
    row_of(page, again).get_by_role("button", name="Cancel").click()
    expect(row_of(page, again)).to_have_count(0, timeout=WAIT)


def test_what_is_being_chosen_is_not_refreshed_away(demo: Demo, open_as: OpenAs) -> None:
    fired = fire_report(demo)
    page = open_pushed(open_as("demo"), LIVE)
    box = row_of(page, fired.id).get_by_role("checkbox")
    box.check()

    press(demo, "quick")
    [slow] = press(demo, "slow")
    page.wait_for_timeout(2500)

    expect(box).to_be_checked()
    expect(row_of(page, slow)).to_have_count(0)
    box.uncheck()
    expect(row_of(page, slow)).to_be_visible(timeout=WAIT)
    row_of(page, fired.id).get_by_role("button", name="Cancel").click()


def test_who_may_only_look_sees_no_button(demo: Demo, open_as: OpenAs) -> None:
    fired = fire_report(demo)
    page = open_as("viewer")
    page.goto(LIVE)
    expect(row_of(page, fired.id)).to_be_visible()
    expect(page.locator(".bgtasks-live button, .bgtasks-live input[type=checkbox]")).to_have_count(0)
    token = page.locator(".bgtasks-live input[name=csrfmiddlewaretoken]").first.input_value()

    answer = page.request.post(
        f"{LIVE}act/",
        form={"do": f"cancel:{fired.id}", "csrfmiddlewaretoken": token},
        headers={"Referer": page.url},
    )

    assert answer.status == 403
    assert {row.task_id: row.status for row in read_rows(demo.database)}[fired.id] == "RUNNING"


def test_without_a_socket_the_page_asks_by_itself(demo: Demo, open_as: OpenAs) -> None:
    page = open_as("viewer")
    page.route_web_socket(re.compile(PATH), lambda opened: opened.close())
    page.goto(LIVE)
    page.evaluate("window.isTheSame = true")

    fired = fire_report(demo)

    expect(row_of(page, fired.id)).to_be_visible(timeout=WAIT)
    assert is_the_same(page)


HIDE = """
isHidden => {
    Object.defineProperty(document, "hidden", {value: isHidden, configurable: true});
    document.dispatchEvent(new Event("visibilitychange"));
}
"""


@pytest.mark.parametrize("way", ["pushed", "polls"])
def test_a_hidden_tab_asks_for_nothing(demo: Demo, open_as: OpenAs, way: str) -> None:
    """A headless Chromium hides no tab, so the test changes the page's visibility."""
    page = open_as("viewer")
    if way == "polls":
        page.route_web_socket(re.compile(PATH), lambda opened: opened.close())
        page.goto(LIVE)
    else:
        open_pushed(page)
    page.wait_for_load_state("networkidle")
    page.evaluate(HIDE, True)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))

    fired = fire_report(demo)
    page.wait_for_timeout(7000)  # A visible page would have asked each second, or every five.

    assert [address for address in asked if address.endswith(LIVE)] == []
    page.evaluate(HIDE, False)
    expect(row_of(page, fired.id)).to_be_visible(timeout=WAIT)


def test_a_page_finds_a_server_that_was_started_again(demo: Demo, open_as: OpenAs) -> None:
    """The page connects again after growing pauses, and shows the changes of the meantime."""
    page = open_pushed(open_as("viewer", is_strict=False))
    tries: list[float] = []
    page.on("websocket", lambda _opened: tries.append(time.monotonic()))
    demo.terminate()
    assert demo.wait(15), demo.log.read_text()
    assert "Drained in" in demo.log.read_text()

    until = time.monotonic() + 60
    while len(tries) < 4 and time.monotonic() < until:
        page.wait_for_timeout(100)
    first, second, third, fourth = tries
    assert fourth - third > second - first
    with page.expect_websocket(timeout=60_000):
        demo.start()
    [task_id] = press(demo, "slow")

    expect(row_of(page, task_id)).to_be_visible(timeout=WAIT)
    assert is_the_same(page)


def test_who_is_logged_out_elsewhere_sees_no_more(demo: Demo, open_as: OpenAs) -> None:
    """The next request of the open page leads to the login."""
    fired = fire_report(demo)
    page = open_pushed(open_as("demo"))
    expect(row_of(page, fired.id)).to_be_visible()

    demo.manage("shell", "-c", "from django.contrib.sessions.models import Session; Session.objects.all().delete()")

    expect(page.get_by_label("Password")).to_be_visible(timeout=WAIT)


HOSTILE = """<script>alert(1)</script>"><img src=x onerror=alert(2)>'`${alert(3)}` javascript:alert(4) \u202e\u0000"""

MAKE_HOSTILE = """
import json, sys
from django.utils import timezone
from bgtasks.models import BackgroundTask, Process
from bgtasks.uuid7 import uuid7
text = json.loads({text!r})
now = timezone.now()
process = Process.objects.create(
    host=text, pid=1, server=text[:50], release=text[:90], started_at=now, beat_at=now, memory=1, blocked_since=now,
    blocked_by=text,
)
for status in ("RUNNING", "READY", "FAILED", "LOST"):
    BackgroundTask.objects.create(
        name=text[:150] + status, status=status, key=text[:90] + status, created_at=now, started_at=now,
        finished_at=None if status in ("RUNNING", "READY") else now, process=process.pk if status != "READY" else None,
        error_type=text[:90], error_message=text, traceback=text, error_fingerprint="0123456789abcdef",
        args=[text], kwargs={{text: text}}, result=text, release=text[:90], queue_name=text[:90],
        progress={{"done": 1, "total": 2, "note": text, "at": now.isoformat()}},
        await_place={{"file": text, "line": text, "function": text, "since": now.isoformat()}},
        fired_by={{"method": text, "path": text, "request_id": text, "user_id": text}},
        transitions=[{{"status": status, "at": now.isoformat(), "attempt": 1, "by": text, "why": text}}],
    )
"""

PAGES = [
    OVERVIEW, LIVE,
    *(f"{ROOT}/{model}/" for model in ("backgroundtask", "failedtask", "stucktask", "taskfunction")),
    *(f"{ROOT}/{model}/" for model in ("process", "drain", "ledger", "pause")),
    f"{ROOT}/taskfunction/function/?name=bgtasks_project.tasks.wait",
]  # fmt: skip


@pytest.fixture(scope="module")
def hostile(demo: Demo) -> Demo:
    text = HOSTILE.replace("\x00", "")
    demo.manage("shell", "-c", MAKE_HOSTILE.format(text=json.dumps(text)))
    return demo


def addresses(demo: Demo, page: Page) -> list[str]:
    """Return the addresses of all pages, with a task of each status and a process."""
    found = list(PAGES)
    for model in ("backgroundtask", "process"):
        page.goto(f"{ROOT}/{model}/")
        links = page.locator("#result_list th a").evaluate_all("links => links.map(link => link.getAttribute('href'))")
        found += links[:4]
    return found


def test_hostile_texts_stay_texts(hostile: Demo, open_as: OpenAs) -> None:
    page = open_as("demo")
    for address in addresses(hostile, page):
        page.goto(address)
        assert page.locator("img[src=x]").count() == 0, address
        assert page.locator("script:not([src])", has_text="alert(").count() == 0, address
        assert page.locator('a[href^="javascript:" i]').count() == 0, address


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_pages_fit(hostile: Demo, open_as: OpenAs, scheme: str, width: int) -> None:
    """No text is cut off, and no page scrolls sideways."""
    page = open_as("demo", viewport={"width": width, "height": 900}, color_scheme=scheme)
    for address in addresses(hostile, page):
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, address


# The socket itself.


def shake_hands(demo: Demo, **headers: str) -> int:
    """Ask for a WebSocket as a browser does; return the status code."""
    with closing(Socket(demo.address, **headers)) as opened:
        return opened.status


MAKE_OTHERS = """
from django.contrib.auth.models import Permission, User
user = User.objects.create_user("outsider", password="outsider")
user.user_permissions.add(Permission.objects.get(codename="view_backgroundtask"))
User.objects.create_user("unpermitted", password="unpermitted", is_staff=True)
"""


def test_the_socket_is_for_staff_of_this_site(demo: Demo) -> None:
    demo.manage("shell", "-c", MAKE_OTHERS)
    viewer = cookie_of(demo, "viewer")

    assert shake_hands(demo, Origin=demo.address, Cookie=viewer) == 101
    assert shake_hands(demo, Origin=demo.address) == 403
    assert shake_hands(demo, Origin=demo.address, Cookie="sessionid=made-up") == 403
    assert shake_hands(demo, Origin=demo.address, Cookie=cookie_of(demo, "outsider")) == 403
    assert shake_hands(demo, Origin=demo.address, Cookie=cookie_of(demo, "unpermitted")) == 403
    for origin in ("https://evil.example", "http://127.0.0.1:1", "null", f"{demo.address}.evil.example"):
        assert shake_hands(demo, Origin=origin, Cookie=viewer) == 403
    assert shake_hands(demo, Cookie=viewer) == 403
