"""Servers, the demo among them, and browsers that are logged in to their admin."""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from bgtasks_project.smoke.processes import Server as Demo
from tests.browsers import CHROMIUM, OpenAs
from tests.programs import Program
from tests.servers import COMMANDS, Server
from tests.staff import make_viewer

REDIS_HOST, REDIS_PORT = "127.0.0.1", 6379


@pytest.fixture
def start(start_server: Callable[..., Server]) -> Callable[..., Server]:
    """Start a server by name, or skip the test where it is not installed."""

    def start(name: str, **options: Any) -> Server:
        program = COMMANDS[name].split()[0]
        for module in [program, "uvicorn_worker"] if name == "gunicorn-uvicorn" else [program]:
            if importlib.util.find_spec(module) is None:
                pytest.skip(f"{module} is not installed: pip install -r requirements.txt")
        return start_server(name=name, **options)

    return start


@pytest.fixture
def program(database: str, tmp_path: Path) -> Program:
    return Program(tmp_path, str(database))


@pytest.fixture
def redis() -> str:
    """The address of a Redis that answers."""
    pytest.importorskip("channels_redis", reason="channels-redis is not installed: `make test` installs it")
    try:
        socket.create_connection((REDIS_HOST, REDIS_PORT), timeout=2).close()
    except OSError as error:
        pytest.skip(f"no Redis answers on {REDIS_HOST}:{REDIS_PORT} ({error}): `service redis-server start`")
    return f"redis://{REDIS_HOST}:{REDIS_PORT}/0"


@pytest.fixture
def start_with_layer(start_server: Callable[..., Server]) -> Callable[..., Server]:
    """Start servers that share the channel layer at an address, under a prefix of their own."""
    prefix = f"bgtasks-tests-{uuid4().hex}"

    def start(address: str, **options: Any) -> Server:
        return start_server(**{"TESTS_REDIS": address, "TESTS_REDIS_PREFIX": prefix, **options})

    return start


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    server = Demo(tmp_path_factory.mktemp("demo"), DEMO_DRAIN_TIMEOUT="1")
    server.manage("migrate", "--verbosity", "0")
    server.manage("make_demo_admin")
    make_viewer(server)
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
def open_as(open_at: OpenAs, demo: Demo) -> OpenAs:
    """Log a user in to the demo's admin."""
    return partial(open_at, demo.address)


@pytest.fixture
def open_at(browser: Browser) -> Iterator[OpenAs]:
    """
    Log a user in to the admin of a server.

    An error on a page or in its console, or a missing file, fails the test.
    """
    problems: list[str] = []
    contexts = []

    def report(said: ConsoleMessage) -> None:
        if said.type in ("error", "warning") and not said.location["url"].endswith("/favicon.ico"):
            problems.append(f"{said.text} {said.location['url']}")

    def open_at(address: str, name: str, is_strict: bool = True, **options: Any) -> Page:
        options = {"base_url": address, "viewport": {"width": 1280, "height": 900}, **options}
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

    yield open_at
    for context in contexts:
        context.close()
    assert problems == []
