"""
Renews the pictures of docs/admin.md: `make screenshots`.

The script fills a database with invented tasks, starts the demo on it, fires some more tasks, and opens the pages in
Chromium.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
CHROMIUM = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
ROWS = 20_000

# Name of the picture, address, and height of the shown part from the top of the page, in pixels; None: the whole page.
PICTURES: list[tuple[str, str, int | None]] = [
    ("overview", "overview/", None),
    ("live", "livetask/", 700),
    ("failures", "failedtask/", 800),
    ("stuck", "stucktask/", 700),
    ("tasks", "backgroundtask/", 800),
    ("task", "FAILED", 1000),
    ("functions", "taskfunction/", 900),
    ("processes", "process/", 600),
    ("drains", "drain/", 700),
]
DARK = ("overview", "functions")


def main() -> None:
    sys.path.insert(0, str(ROOT))
    from bgtasks_project.smoke.processes import Server  # The path is set above.

    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder), DEMO_DRAIN_TIMEOUT="1")
        server.manage("migrate", "--verbosity", "0")
        server.manage("make_demo_admin")
        environment = {**os.environ, "DEMO_VAR_DIR": folder, "DJANGO_SETTINGS_MODULE": "bgtasks_project.settings"}
        seed = [sys.executable, "-m", "benchmarks.seed_rows", "--rows", str(ROWS), "--live", "40", "--beat"]
        beating = subprocess.Popen(seed, cwd=ROOT, env=environment, stdout=subprocess.PIPE)  # noqa: S603  # Our own command.
        assert beating.stdout is not None
        while b"beat" not in beating.stdout.readline():  # The database is filled.
            pass
        server.start()
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
                fire(server.address)
                for scheme in ("light", "dark"):
                    options = {"base_url": server.address, "color_scheme": scheme, "device_scale_factor": 1}
                    context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
                    page = log_in(context.new_page())
                    for name, address, height in PICTURES:
                        if scheme == "light" or name in DARK:
                            take(page, f"{name}-{scheme}", address, height)
                    context.close()
                context = browser.new_context(
                    viewport={"width": 400, "height": 860}, base_url=server.address, device_scale_factor=2
                )
                page = log_in(context.new_page())
                for name in ("overview", "live"):
                    take(page, f"{name}-narrow", {each[0]: each[1] for each in PICTURES}[name], 860)
                browser.close()
        finally:
            beating.kill()
            server.kill()


def log_in(page: Page) -> Page:
    page.goto("/admin/login/?next=/admin/bgtasks/")
    page.get_by_label("Username").fill("demo")
    page.get_by_label("Password").fill("demo")
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/admin/bgtasks/")
    return page


def fire(address: str) -> None:
    """Fire tasks for the live pages: reports with progress, slow tasks, failures."""
    with httpx.Client(base_url=address, timeout=30) as client:
        for seconds in (40, 90, 200):
            client.post("/reports", json={"seconds": seconds})
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', client.get("/").text)
        assert token
        for button in ("slow", "quick", "failing", "slow", "quick", "quick"):
            client.post(f"/press/{button}", headers={"X-CSRFToken": token[1], "Referer": address})


def take(page: Page, name: str, address: str, height: int | None) -> None:
    if address == "FAILED":  # The page of the newest task that failed after several attempts.
        page.goto("/admin/bgtasks/backgroundtask/?status=FAILED&name=shop.payments.tasks.reconcile")
        page.locator("#result_list tbody th a").first.click()
    else:
        page.goto(f"/admin/bgtasks/{address}")
    page.wait_for_timeout(800)
    whole = page.evaluate("document.querySelector('#container').scrollHeight")
    clip_height = min(whole, height) if height else whole
    width = page.viewport_size["width"] if page.viewport_size else 1280
    page.set_viewport_size({"width": width, "height": min(max(clip_height, 400), 3000)})
    page.screenshot(path=IMAGES / f"{name}.png")
    page.set_viewport_size({"width": width, "height": 900})


if __name__ == "__main__":
    main()
