"""The admin as staff use it: in a browser, on a server that runs tasks, and in a process without a runtime."""

from __future__ import annotations

import re
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from uuid import UUID, uuid4

import httpx
import pytest
from playwright.sync_api import Page, expect

from bgtasks_project.smoke.evidence import read_rows
from bgtasks_project.smoke.processes import Server as Demo
from tests.browsers import WAIT, Fired, fire_report, needs_browser, wait_for_row
from tests.servers import Server, find_port

in_the_demo = pytest.mark.databases("sqlite")  # It has a file of its own.


def fire_webhook(demo: Demo, port: int) -> Fired:
    topic = f"topic-{port}"
    wanted = {"topic": topic, "url": f"http://127.0.0.1:{port}/"}
    assert httpx.post(f"{demo.address}/subscriptions", json=wanted, timeout=30).status_code == 201
    answer = httpx.post(f"{demo.address}/hooks/{topic}", json={"order": 7}, timeout=30)
    return wait_for_row(demo, answer.json()["deliveries"][0]["task_id"])


def status_on(page: Page):
    return page.locator(".bgtasks-head .bgtasks-badge")


def choose(page: Page, fired: Fired, action: str) -> None:
    """Run an action of the list on one task."""
    page.locator(f'input[name="_selected_action"][value="{UUID(fired.id)}"]').check()
    page.get_by_role("combobox", name="Action").select_option(action)
    page.locator('button[name="index"]').first.click()


@pytest.mark.slow
@in_the_demo
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


@in_the_demo
@needs_browser
def test_a_running_task_is_cancelled_by_its_button(demo, open_as):
    """The page shows it without a reload. The only browser test that is not marked slow: each starts a server."""
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


@pytest.mark.slow
@in_the_demo
@needs_browser
@pytest.mark.parametrize("way", ["action", "button"])
def test_a_failed_task_is_fired_again_and_succeeds(demo, open_as, way):
    """A webhook is refused, since no server listens. Once one listens, the task is fired again."""
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


@pytest.mark.slow
@in_the_demo
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


def log_in(server: Server) -> httpx.Client:
    name = f"staff-{uuid4().hex[:8]}"
    named = ("--username", name, "--email", "a@b.cd")
    server.manage("createsuperuser", "--noinput", *named, DJANGO_SUPERUSER_PASSWORD=name)
    client = httpx.Client(base_url=server.address, timeout=30)
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


def test_a_process_without_tasks_cancels_and_fires_what_another_one_runs(start_server):
    """A WSGI worker serves the admin. It has no event loop and fires nothing."""
    runs = start_server(name="uvicorn")
    shows = start_server(name="gunicorn-sync")
    [running] = runs.fire("sleep", 3600)
    [failed] = runs.fire("fail")
    runs.wait_for_statuses({"RUNNING": 1, "FAILED": 1})
    root = "/admin/bgtasks/backgroundtask"

    with closing(log_in(shows)) as client:
        press(client, f"{root}/{running}/change/", f"{root}/{running}/cancel/")
        runs.wait_for_statuses({"CANCELLED": 1, "FAILED": 1}, seconds=20)
        new = press(client, f"{root}/{failed}/change/", f"{root}/{failed}/fire-again/")
        runs.wait_for_statuses({"CANCELLED": 1, "FAILED": 2}, seconds=20)

    rows = {str(UUID(row["id"])): row for row in runs.rows()}
    [again] = rows.keys() - {running, failed}
    assert new == f"{root}/{again}/change/"
    processes = {UUID(row["id"]): row["server"] for row in runs.query("SELECT id, server FROM bgtasks_process")}
    assert processes[UUID(rows[again]["process"])] == "uvicorn"
    assert set(processes.values()) == {"uvicorn"}  # The process of the admin has no row.
