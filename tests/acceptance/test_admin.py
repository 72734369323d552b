"""The admin as staff meet it: in a browser, on a server with tasks that really run, and in a process of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from bgtasks_project.smoke.evidence import read_rows
from bgtasks_project.smoke.processes import Server as Demo
from tests.servers import ROOT, Server, find_port

WAIT = 20_000  # Milliseconds, for what the page shows by itself.
CHROMIUM = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="There is no Chromium here.")

MAKE_VIEWER = """
from django.contrib.auth.models import Permission, User
user = User.objects.create_user("viewer", password="viewer", is_staff=True)
user.user_permissions.add(Permission.objects.get(codename="view_backgroundtask"))
"""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    server = Demo(tmp_path_factory.mktemp("demo"), DEMO_DRAIN_TIMEOUT="1")
    server.manage("migrate", "--verbosity", "0")
    server.manage("make_demo_admin")
    server.manage("shell", "-c", MAKE_VIEWER)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_as(browser: Browser, demo: Demo) -> Iterator[Callable[[str], Page]]:
    """Log somebody in to the admin; an error on a page, or a file that it misses, fails the test."""
    problems: list[str] = []
    contexts = []

    def open_as(name: str) -> Page:
        contexts.append(browser.new_context(base_url=demo.address, viewport={"width": 1280, "height": 900}))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("response", lambda got: problems.append(f"{got.status} {got.url}") if got.status >= 400 else None)
        page.goto("/admin/login/?next=/admin/bgtasks/backgroundtask/")
        page.get_by_label("Username").fill(name)
        page.get_by_label("Password").fill(name)
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("navigation", name="Show")).to_be_visible()
        return page

    yield open_as
    for context in contexts:
        context.close()
    assert problems == []


@dataclass
class Fired:
    id: str
    page: str


def fire_report(demo: Demo, seconds: float = 60) -> Fired:
    answer = httpx.post(f"{demo.address}/reports", json={"seconds": seconds}, timeout=30)
    assert answer.status_code == 202, answer.text
    return wait_for_row(demo, answer.json()["task_id"])


def fire_webhook(demo: Demo, port: int) -> Fired:
    topic = f"topic-{port}"
    wanted = {"topic": topic, "url": f"http://127.0.0.1:{port}/"}
    assert httpx.post(f"{demo.address}/subscriptions", json=wanted, timeout=30).status_code == 201
    answer = httpx.post(f"{demo.address}/hooks/{topic}", json={"order": 7}, timeout=30)
    return wait_for_row(demo, answer.json()["deliveries"][0]["task_id"])


def wait_for_row(demo: Demo, task_id: str) -> Fired:
    until = time.monotonic() + 20
    while task_id not in {row.task_id for row in read_rows(demo.database)}:
        assert time.monotonic() < until, demo.log.read_text()
        time.sleep(0.02)
    return Fired(task_id, f"/admin/bgtasks/backgroundtask/{task_id}/change/")


def status_on(page: Page):
    return page.locator(".bgtasks-head .bgtasks-badge")


def choose(page: Page, fired: Fired, action: str) -> None:
    """Run an action of the list on one task."""
    page.locator(f'input[name="_selected_action"][value="{UUID(fired.id)}"]').check()
    page.get_by_role("combobox", name="Action").select_option(action)
    page.locator('button[name="index"]').first.click()


@needs_browser
def test_a_running_task_is_cancelled_by_the_action(demo, open_as):
    fired = fire_report(demo)
    page = open_as("demo")
    page.reload()

    choose(page, fired, "Cancel")

    expect(page.locator(".messagelist")).to_contain_text("1 task is asked to stop")
    page.goto(fired.page)
    expect(status_on(page)).to_have_text("Cancelled", timeout=WAIT)
    assert {row.task_id: row.status for row in read_rows(demo.database)}[fired.id] == "CANCELLED"


@needs_browser
def test_a_running_task_is_cancelled_by_its_button(demo, open_as):
    """The page says so by itself, without a reload."""
    fired = fire_report(demo)
    page = open_as("demo")
    page.goto(fired.page)
    expect(status_on(page)).to_have_text("Running")

    page.get_by_role("button", name="Cancel").click()

    expect(page.locator(".messagelist")).to_contain_text("1 task is asked to stop")
    expect(status_on(page)).to_have_text("Cancelled", timeout=WAIT)
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
    expect(page.get_by_role("button", name="Fire again")).to_be_visible()


class Answer(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@needs_browser
@pytest.mark.parametrize("way", ["action", "button"])
def test_a_failed_task_is_fired_again_and_succeeds(demo, open_as, way):
    """A webhook finds nobody there; once somebody is, it is fired again."""
    port = find_port()
    fired = fire_webhook(demo, port)
    page = open_as("demo")
    page.goto(fired.page)
    expect(status_on(page)).to_have_text("Failed", timeout=WAIT)
    receiver = ThreadingHTTPServer(("127.0.0.1", port), Answer)
    thread = threading.Thread(target=receiver.serve_forever)
    thread.start()
    try:
        if way == "button":
            page.get_by_role("button", name="Fire again").click()
        else:
            page.goto("/admin/bgtasks/backgroundtask/?show=failed")
            choose(page, fired, "Fire again")

        expect(page.locator(".messagelist")).to_contain_text("1 task is fired again")
        if way == "action":
            page.goto(fired.page)
            page.locator("section", has_text="Fired again as").get_by_role("link").click()
        expect(status_on(page)).to_have_text("Successful", timeout=WAIT)
    finally:
        receiver.shutdown()
        thread.join()
        receiver.server_close()

    assert fired.id not in page.url
    page.get_by_role("link", name=fired.id).click()
    expect(status_on(page)).to_have_text("Failed")


@needs_browser
def test_who_may_only_look_sees_no_action(demo, open_as):
    fired = fire_report(demo)
    page = open_as("viewer")
    page.reload()

    expect(page.locator("#result_list")).to_be_visible()
    expect(page.locator('input[type="checkbox"]')).to_have_count(0)
    expect(page.get_by_role("combobox", name="Action")).to_have_count(0)
    page.goto(fired.page)
    expect(status_on(page)).to_have_text("Running")
    expect(page.locator(".bgtasks-buttons button")).to_have_count(0)


# The admin in a process that runs no tasks.


def log_in(server: Server, folder: Path) -> httpx.Client:
    name = f"staff-{uuid4().hex[:8]}"
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "TESTS_DB_DIR": str(folder),
        "TESTS_DB_NAME": server.database,
        "DJANGO_SUPERUSER_PASSWORD": name,
    }
    command = [sys.executable, "manage.py", "createsuperuser", "--noinput", "--username", name, "--email", "a@b.cd"]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    client = httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=30)
    press(client, "/admin/login/", "/admin/login/", username=name, password=name)
    return client


def press(client: httpx.Client, page: str, address: str, **values: str) -> str:
    """Send the form of a page as a browser does; return where it leads."""
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', client.get(page).text)
    assert token
    headers = {"Referer": str(client.base_url.join(page))}
    answer = client.post(address, data={"csrfmiddlewaretoken": token[1], **values}, headers=headers)
    assert answer.status_code == 302, answer.text
    return answer.headers["Location"]


def test_a_process_without_tasks_cancels_and_fires_what_another_one_runs(start_server, tmp_path):
    """The admin is served by WSGI, in a worker that has no event loop and fires nothing."""
    runs = start_server(name="uvicorn")
    shows = start_server(name="gunicorn-sync")
    [running] = runs.fire("sleep", 3600)
    [failed] = runs.fire("fail")
    runs.wait_for_statuses({"RUNNING": 1, "FAILED": 1})
    root = "/admin/bgtasks/backgroundtask"

    with closing(log_in(shows, tmp_path)) as client:
        press(client, f"{root}/{running}/change/", f"{root}/{running}/cancel/")
        runs.wait_for_statuses({"CANCELLED": 1, "FAILED": 1}, seconds=20)
        new = press(client, f"{root}/{failed}/change/", f"{root}/{failed}/fire-again/")
        runs.wait_for_statuses({"CANCELLED": 1, "FAILED": 2}, seconds=20)

    rows = {str(UUID(row["id"])): row for row in runs.rows()}
    [again] = rows.keys() - {running, failed}
    assert new == f"{root}/{again}/change/"
    processes = {UUID(row["id"]): row["server"] for row in runs.query("SELECT id, server FROM bgtasks_process")}
    assert processes[UUID(rows[again]["process"])] == "uvicorn"
    assert set(processes.values()) == {"uvicorn"}  # The other one has not even a row.
