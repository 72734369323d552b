"""The admin's pages without a mouse: Tab reaches each control, the focus is visible, and a page swap keeps it."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from bgtasks_project.smoke.processes import Server as Demo
from tests.browsers import LIVE, OVERVIEW, ROOT, WAIT, OpenAs, fire_report, needs_browser, open_pushed, row_of

# The demo has a file of its own.
pytestmark = [pytest.mark.slow, pytest.mark.databases("sqlite"), needs_browser]

MAKE_ROWS = """
import time
from datetime import timedelta
from django.utils import timezone
from bgtasks.models import BackgroundTask, Drain, Process
now = timezone.now()
ended = Process.objects.create(
    host="elsewhere", pid=1, server="uvicorn", release="demo", started_at=now - timedelta(hours=2), beat_at=now,
    memory=1, state="DEAD",
)
Drain.objects.create(
    process=ended.pk, started_at=now, seconds=1, running_at_start=2, finished_count=1, cancelled_count=1, left_count=0,
    names={"bgtasks_project.tasks.wait": 1}, course=[[0, 2], [1, 0]],
)
deep = "\\n".join(f'  File "/x/lib/python3.11/site-packages/django/x{n}.py", line {n}, in f' for n in range(5))
steps = [{"status": "RUNNING", "at": now.isoformat(), "attempt": number} for number in range(40)]
failed = {
    "error_type": "ValueError", "error_message": "no", "error_fingerprint": "0123456789abcdef", "transitions": steps,
    "traceback": f"Traceback (most recent call last):\\n{deep}\\nValueError: no\\n",
}
wait = "bgtasks_project.tasks.wait"
BackgroundTask.objects.create(name=wait, status="FAILED", created_at=now, started_at=now, finished_at=now, **failed)
runs = BackgroundTask.objects.create(
    name=wait, status="READY", created_at=now, kwargs={"seconds": 3600}, stuck_after=60
)
while runs.status != "RUNNING":
    time.sleep(0.1)
    runs.refresh_from_db()
# As after an attempt that failed.
BackgroundTask.objects.filter(pk=runs.pk).update(started_at=now - timedelta(hours=1), **failed)
"""

PAGES = {
    "overview": OVERVIEW,
    "live": LIVE,
    "failures": f"{ROOT}/failedtask/",
    "stuck": f"{ROOT}/stucktask/",
    "all": f"{ROOT}/backgroundtask/",
    "functions": f"{ROOT}/taskfunction/",
    "function": f"{ROOT}/taskfunction/function/?name=bgtasks_project.tasks.wait",
    "processes": f"{ROOT}/process/",
    "drains": f"{ROOT}/drain/",
}

# Each visible control of the content, in the order of the document.
LIST_CONTROLS = """
() => [...document.querySelectorAll("#content :is(a[href], button, input, select, textarea, summary)")]
    .filter((each) => each.checkVisibility({visibilityProperty: true}) && !each.disabled && each.type !== "hidden")
    .map((each, index) => { each.dataset.number = index; return each.outerHTML.slice(0, 200); })
"""
FOCUSED = "() => Number(document.activeElement.dataset.number ?? -1)"
# How a control looks with the focus, and a moment later without it.
LOOK = """
() => {
    const look = (each) => {
        const {outlineStyle, outlineWidth, boxShadow, borderColor, backgroundColor, textDecorationLine, stroke, fill}
            = getComputedStyle(each);
        const outline = outlineStyle === "none" ? "" : outlineStyle + outlineWidth;
        return [outline, boxShadow, borderColor, backgroundColor, textDecorationLine, stroke, fill].join();
    };
    const focused = document.activeElement;
    const parts = [focused, ...focused.querySelectorAll("*")];
    const styles = document.head.appendChild(document.createElement("style"));
    styles.textContent = "* { transition: none !important; }";
    const seen = parts.map(look).join();
    focused.blur();
    const unseen = parts.map(look).join();
    focused.focus();
    styles.remove();
    return seen !== unseen;
}
"""


@pytest.fixture(scope="module")
def rows(demo: Demo) -> Demo:
    """The demo with rows for each of its pages."""
    demo.manage("shell", "-c", MAKE_ROWS)
    return demo


@pytest.fixture
def staff(rows: Demo, open_as: OpenAs) -> Page:
    return open_as("demo")


def stand_still(page: Page) -> None:
    """Keep the page from being swapped while Tab walks through it."""
    page.evaluate("dispatchEvent(new Event('pagehide'))")


@pytest.mark.parametrize("name", [*PAGES, "task", "process"])
def test_tab_reaches_each_control_in_order_and_one_sees_it(staff: Page, name: str) -> None:
    page = staff
    if name in PAGES:
        page.goto(PAGES[name])
    else:
        page.goto({"task": f"{ROOT}/backgroundtask/?show=failed", "process": f"{ROOT}/process/"}[name])
        page.locator("#result_list tbody th a").first.click()
        expect(page.locator(".bgtasks-head")).to_be_visible(timeout=WAIT)
    stand_still(page)
    controls = page.evaluate(LIST_CONTROLS)
    page.locator("#content").evaluate("content => { content.tabIndex = -1; content.focus(); }")

    reached, unseen = [], []
    for _ in range(3 * len(controls)):
        page.keyboard.press("Tab")
        number = page.evaluate(FOCUSED)
        if number < 0 and not page.evaluate("document.querySelector('#content').contains(document.activeElement)"):
            break
        if number >= 0:
            reached.append(number)
        if not page.evaluate(LOOK):
            unseen.append(page.evaluate("document.activeElement.outerHTML.slice(0, 300)"))

    assert controls
    assert [controls[number] for number in range(len(controls)) if number not in reached] == []
    assert reached == sorted(reached)
    assert unseen == []


def swap(page: Page) -> None:
    """Wait until the page has been swapped."""
    page.evaluate("document.querySelector('.bgtasks-page').dataset.old = ''")
    page.wait_for_function("!('old' in document.querySelector('.bgtasks-page').dataset)", timeout=WAIT)


def focus(page: Page, selector: str) -> Any:
    """Focus the first matching control; return the key that identifies it."""
    page.locator(selector).first.focus()
    return page.evaluate(KEY)


KEY = """
() => {
    const focused = document.activeElement;
    return [focused.tagName, ...["href", "value", "aria-label"].map((name) => focused.getAttribute(name))].slice(0, 3);
}
"""


@pytest.mark.parametrize(
    ("name", "selector"),
    [
        ("live", ".bgtasks-live-task button"),
        ("live", ".bgtasks-live-task a"),
        ("live", ".bgtasks-choose button"),
        ("live", ".bgtasks-live-task input[type=checkbox]"),
        ("overview", ".bgtasks-tile a"),
        ("overview", ".bgtasks-lane a:has(.bgtasks-is-running)"),
        ("overview", ".bgtasks-choices a"),
    ],
)
def test_focus_stays_where_it_is_when_the_page_is_swapped(staff: Page, name: str, selector: str) -> None:
    open_pushed(staff, PAGES[name])
    before = focus(staff, selector)

    swap(staff)
    swap(staff)

    assert staff.evaluate(KEY) == before


def test_focus_on_what_is_gone_goes_to_a_link_before_it(rows: Demo, staff: Page) -> None:
    fired = fire_report(rows)
    page = open_pushed(staff)
    button = row_of(page, fired.id).get_by_role("button", name="Cancel")
    button.focus()

    page.context.request.post(
        f"{LIVE}act/",
        form={
            "do": f"cancel:{fired.id}",
            "csrfmiddlewaretoken": page.locator("[name=csrfmiddlewaretoken]").first.input_value(),
        },
        headers={"Referer": page.url},
    )
    expect(row_of(page, fired.id)).to_have_count(0, timeout=WAIT)

    assert page.evaluate("document.activeElement.matches('.bgtasks-page a')")


def test_what_is_unfolded_folded_or_scrolled_stays_so(rows: Demo, staff: Page) -> None:
    page = staff
    page.goto(f"{ROOT}/backgroundtask/?show=running")
    page.locator("#result_list tbody th a", has_text="wait").click()
    expect(page.locator(".bgtasks-refreshes")).to_be_visible()
    folded = page.locator("details[data-bgtasks-details=steps] summary")
    folded.focus()
    page.keyboard.press("Enter")
    library = page.locator("details.bgtasks-library")
    expect(library).to_have_attribute("open", "")
    for _ in range(5):  # A swap between the two halves of the key press takes it away.
        library.locator("summary").focus()
        page.keyboard.press("Space")
        if library.get_attribute("open") is None:
            break

    swap(page)

    expect(page.locator("details[data-bgtasks-details=steps]")).to_have_attribute("open", "")
    expect(library).not_to_have_attribute("open", "")
    assert page.evaluate("document.activeElement.matches('.bgtasks-library summary')")


def test_a_selected_text_stays_selected(staff: Page) -> None:
    page = open_pushed(staff)
    expect(page.locator(".bgtasks-live-task .bgtasks-name").first).to_be_visible()
    page.evaluate("getSelection().selectAllChildren(document.querySelector('.bgtasks-live-task .bgtasks-name'))")
    before = page.evaluate("String(getSelection())")

    page.wait_for_timeout(3000)  # Long enough for several swaps, which the selection prevents.

    assert before
    assert page.evaluate("String(getSelection())") == before
    page.evaluate("getSelection().removeAllRanges()")
    swap(page)


def test_tasks_are_chosen_and_cancelled_by_keys(rows: Demo, staff: Page) -> None:
    fired = fire_report(rows)
    page = open_pushed(staff)
    row_of(page, fired.id).get_by_role("checkbox").focus()
    page.keyboard.press("Space")
    expect(row_of(page, fired.id).get_by_role("checkbox")).to_be_checked()
    page.locator(".bgtasks-choose").get_by_role("button", name="Cancel", exact=True).focus()

    page.keyboard.press("Enter")

    expect(page.locator(".messagelist")).to_contain_text("1 task is asked to stop")


def test_nothing_that_is_swapped_is_read_out(staff: Page) -> None:
    """A screen reader would read the page again each second."""
    for address in PAGES.values():
        staff.goto(address)
        live = "[aria-live]:not([aria-live=off]), [role=status], [role=alert], [role=log]"
        assert staff.locator(f"[data-bgtasks-refresh] :is({live})").count() == 0, address
