"""The page of a task function as staff use it: in a browser, on a server that runs the fired tasks."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browsers import WAIT, needs_browser

from .test_admin import status_on

# The demo has a file of its own.
pytestmark = [pytest.mark.slow, pytest.mark.databases("sqlite"), needs_browser]

FUNCTION = "/admin/bgtasks/taskfunction/function/?name=bgtasks_project.tasks."


def fire(page: Page, function: str, **typed: str) -> None:
    page.goto(FUNCTION + function)
    for name, text in typed.items():
        page.get_by_label(re.compile(f"^{name} ")).fill(text)
    page.get_by_role("button", name="Fire now").click()


def test_a_task_is_fired_grows_and_ends_on_its_page(open_as):
    """The page shows it without a reload by hand."""
    page = open_as("demo")

    fire(page, "wait", seconds="13")

    expect(page.locator(".messagelist")).to_contain_text("Fired bgtasks_project.tasks.wait.")
    running = page.locator(".bgtasks-state-open", has_text="Running")
    expect(running).to_contain_text("so far", timeout=WAIT)
    first = running.inner_text()
    expect(running).not_to_have_text(first, use_inner_text=True, timeout=WAIT)
    expect(status_on(page)).to_have_text("Successful", timeout=WAIT)
    expect(page.locator(".bgtasks-states")).to_contain_text(re.compile(r"ran 13(\.\d)? s"))
    expect(page.locator(".bgtasks-timeline")).to_contain_text("by user demo")
    expect(page.locator(".bgtasks-strip a[aria-current]")).to_have_count(1)


def test_bad_input_is_reported_beside_its_field(open_as):
    page = open_as("demo")

    fire(page, "wait", seconds="")

    expect(page.get_by_role("alert")).to_contain_text("seconds: This field is required.")
    expect(page.get_by_label(re.compile("^seconds "))).to_be_visible()


def test_a_traceback_is_copied(open_as):
    page = open_as("demo")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    fire(page, "import_prices")
    expect(status_on(page)).to_have_text("Failed", timeout=WAIT)
    expect(page.locator(".bgtasks-frames").first).to_contain_text("import_prices")

    page.get_by_role("button", name="Copy traceback").click()

    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()").startswith("Traceback (most recent call last):")


def test_a_function_is_paused_and_resumed(open_as):
    page = open_as("demo")
    page.goto(FUNCTION + "block")

    page.get_by_role("button", name="Pause").click()

    expect(page.locator(".bgtasks-head .bgtasks-badge")).to_have_text("paused")
    page.get_by_role("button", name="Resume").click()
    expect(page.locator(".messagelist")).to_contain_text("Resumed bgtasks_project.tasks.block.")
    expect(page.locator(".bgtasks-head .bgtasks-badge")).to_have_count(0)


def test_who_may_only_look_sees_no_arguments_and_no_form(demo, open_as):
    fire(staff := open_as("demo"), "wait", seconds="0.25")
    expect(status_on(staff)).to_have_text("Successful", timeout=WAIT)
    page = open_as("viewer")

    page.goto(staff.url)
    expect(page.locator("body")).to_contain_text("bgtasks.view_task_args")
    expect(page.locator("pre", has_text="0.25")).to_have_count(0)
    page.goto(FUNCTION + "wait")
    expect(page.get_by_role("heading", name="Fire now")).to_have_count(0)
    expect(page.locator("#content-main form")).to_have_count(0)
