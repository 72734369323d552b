"""A browser on the demo's admin."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx
import pytest
from playwright.sync_api import Locator, Page

from bgtasks_project.smoke.evidence import read_rows
from bgtasks_project.smoke.processes import Server as Demo
from tests.sockets import PATH
from tests.waiting import wait_for

WAIT = 20_000  # Milliseconds until the page must show a change by itself.
CHROMIUM = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="There is no Chromium here.")

OpenAs = Callable[..., Page]

ROOT = "/admin/bgtasks"
LIVE, OVERVIEW = f"{ROOT}/livetask/", f"{ROOT}/overview/"


@dataclass
class Fired:
    id: str
    page: str


def fire_report(demo: Demo, seconds: float = 60) -> Fired:
    answer = httpx.post(f"{demo.address}/reports", json={"seconds": seconds}, timeout=30)
    assert answer.status_code == 202, answer.text
    return wait_for_row(demo, answer.json()["task_id"])


def wait_for_row(demo: Demo, task_id: str) -> Fired:
    def is_recorded() -> bool:
        return task_id in {row.task_id for row in read_rows(demo.database)}

    wait_for(is_recorded, f"task {task_id} has a row", 20, demo.log.read_text)
    return Fired(task_id, f"/admin/bgtasks/backgroundtask/{task_id}/change/")


def open_pushed(page: Page, address: str = LIVE) -> Page:
    """Open a page and wait until its socket is open."""
    with page.expect_websocket() as opened:
        page.goto(address)
    assert opened.value.url.endswith(PATH)
    page.evaluate("window.isTheSame = true")  # A reload would lose it.
    return page


def note_pushes(page: Page) -> list[float]:
    """Return the list to which the moments of later messages to the page's sockets are added."""
    moments: list[float] = []
    page.on("websocket", lambda opened: opened.on("framereceived", lambda _frame: moments.append(time.monotonic())))
    return moments


def is_the_same(page: Page) -> bool:
    """Report whether the page has not been reloaded since `open_pushed`."""
    return bool(page.evaluate("window.isTheSame === true"))


def row_of(page: Page, task_id: str) -> Locator:
    return page.locator(f'[data-bgtasks-task="{task_id}"]')


def wait_until_it_grows(page: Page, task_id: str) -> None:
    """Wait until the bar of a running task has grown."""
    bar = f'[data-bgtasks-task="{task_id}"] .bgtasks-elapsed-bar'
    first = float(page.locator(bar).get_attribute("width") or 0)
    grown = "([bar, first]) => Number(document.querySelector(bar).getAttribute('width')) > first"
    page.wait_for_function(grown, arg=[bar, first], timeout=WAIT)
