"""A browser, and the demo that it looks at."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass

import httpx
import pytest

from bgtasks_project.smoke.evidence import read_rows
from bgtasks_project.smoke.processes import Server as Demo

WAIT = 20_000  # Milliseconds, for what the page shows by itself.
CHROMIUM = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="There is no Chromium here.")


@dataclass
class Fired:
    id: str
    page: str


def fire_report(demo: Demo, seconds: float = 60) -> Fired:
    answer = httpx.post(f"{demo.address}/reports", json={"seconds": seconds}, timeout=30)
    assert answer.status_code == 202, answer.text
    return wait_for_row(demo, answer.json()["task_id"])


def wait_for_row(demo: Demo, task_id: str) -> Fired:
    until = time.monotonic() + 20
    while task_id not in {row.task_id for row in read_rows(demo.database)}:
        assert time.monotonic() < until, demo.log.read_text()
        time.sleep(0.02)
    return Fired(task_id, f"/admin/bgtasks/backgroundtask/{task_id}/change/")
