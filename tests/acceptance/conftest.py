"""The demo on a server, and browsers that are logged in to its admin."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from bgtasks_project.smoke.processes import Server as Demo
from tests.browsers import CHROMIUM

OpenAs = Callable[..., Page]

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
def open_as(browser: Browser, demo: Demo) -> Iterator[OpenAs]:
    """Log somebody in to the admin; an error on a page or its console, or a file that it misses, fails the test."""
    problems: list[str] = []
    contexts = []

    def report(said: ConsoleMessage) -> None:
        if said.type in ("error", "warning") and not said.location["url"].endswith("/favicon.ico"):
            problems.append(f"{said.text} {said.location['url']}")

    def open_as(name: str, is_strict: bool = True, **options: Any) -> Page:
        options = {"base_url": demo.address, "viewport": {"width": 1280, "height": 900}, **options}
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        if is_strict:
            page.on("console", report)
        page.on("dialog", lambda dialog: problems.append(f"A dialog: {dialog.message}"))
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
