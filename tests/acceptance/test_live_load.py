"""The admin's pages while ten thousand tasks wait, run and end."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browsers import LIVE, OVERVIEW, WAIT, OpenAs, is_the_same, needs_browser, note_pushes, open_pushed
from tests.servers import Server
from tests.staff import make_viewer

pytestmark = [pytest.mark.slow, needs_browser]

COUNT = 10_000
MAX_BYTES = 600_000  # Bytes of a page with two hundred rows.
LARGEST = """
() => Math.max(...performance.getEntriesByType("resource")
    .filter(({initiatorType}) => initiatorType === "fetch").map(({decodedBodySize}) => decodedBodySize))
"""


def count_in(page: Page, heading: str) -> int:
    text = page.locator("h2", has_text=heading).locator(".bgtasks-count").inner_text()
    return int(text.rstrip("+"))


@pytest.mark.timeout(400)
def test_pages_stay_usable_while_ten_thousand_tasks_run(start: Callable[..., Server], open_at: OpenAs) -> None:
    server = start("uvicorn", TESTS_LIVE="1")
    make_viewer(server)
    live, overview = open_at(server.address, "viewer"), open_at(server.address, "viewer")
    pushes = note_pushes(live)
    open_pushed(live, LIVE)
    open_pushed(overview, OVERVIEW)
    began = time.monotonic()

    for _ in range(10):
        server.fire("sleep", 2, times=COUNT // 10)

    running, waiting = (live.locator("form.bgtasks-live").nth(part).locator(".bgtasks-live-task") for part in (0, 1))
    expect(waiting).to_have_count(100, timeout=WAIT)
    expect(running).to_have_count(100, timeout=WAIT)
    expect(live.get_by_text("The 100 that were fired first are here.")).to_be_visible()
    expect(live.get_by_text("The 100 that run for longest are here.")).to_be_visible()
    assert count_in(live, "Waiting") > 100
    expect(overview.locator(".bgtasks-lane")).to_contain_text(re.compile(r"\d+ not drawn"), timeout=WAIT)
    assert overview.locator(".bgtasks-lane a").count() <= 200
    with live.context.expect_page() as opened:
        waiting.get_by_role("link").first.click(modifiers=["Control"])
    expect(opened.value.locator(".bgtasks-head")).to_be_visible(timeout=WAIT)

    server.wait_for_statuses({"SUCCESSFUL": COUNT}, seconds=300)

    expect(live.get_by_text("Nothing runs at the moment.")).to_be_visible(timeout=WAIT)
    expect(live.get_by_text("Nothing waits.")).to_be_visible(timeout=WAIT)
    seconds = time.monotonic() - began
    assert 2 <= len(pushes) <= 2 * seconds + 2
    assert live.evaluate(LARGEST) < MAX_BYTES
    assert overview.evaluate(LARGEST) < MAX_BYTES
    assert is_the_same(live)
    assert "Traceback" not in server.log
