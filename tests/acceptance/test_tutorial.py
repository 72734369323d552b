"""The tutorial, as a reader follows it: its project, its tests, its server."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from functools import partial
from pathlib import Path

import pytest

from tests.installed import install_metadata
from tests.pages import BLOCKS, ROOT
from tests.waiting import wait_for

pytestmark = pytest.mark.databases("sqlite")  # The tutorial's project has a file of its own.


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tutorial's project, with its tables."""
    folder = tmp_path_factory.mktemp("tutorial")
    run_in(folder, "-m", "django", "startproject", "shop", ".")
    for block in BLOCKS:
        order, _, path = block.order.partition(" ")
        if order == "file":
            (folder / path).write_text(block.code)
        elif order == "append":
            with (folder / path).open("a") as file:
                file.write(f"\n\n{block.code}")
    return folder


def run_in(folder: Path, *arguments: str, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**environment(), **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def environment() -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    return {**own, "PYTHONPATH": str(ROOT)}


def test_tutorial_passes_the_checks(shop: Path):
    assert "no issues" in run_in(shop, "manage.py", "check")


@pytest.mark.slow
def test_tests_of_the_tutorial_pass(shop: Path, tmp_path: Path):
    assert "Ran 5 tests" in run_in(shop, "-W", "error", "manage.py", "test")

    plugin = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(install_metadata(tmp_path))])}
    options = ["-p", "no:cacheprovider", "--ds", "shop.settings", "-W", "error", "-c", "/dev/null", "--rootdir", "."]
    output = run_in(
        shop, "-m", "pytest", *options, "-o", "asyncio_default_fixture_loop_scope=function", "shop", **plugin
    )
    assert " 4 passed" in output


def test_tutorial_runs_and_drains(shop: Path):
    run_in(shop, "manage.py", "migrate", "--verbosity", "0")
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "shop.asgi:application", "--port", str(port)]
    log = shop / "server.log"
    with log.open("w") as file:
        server = subprocess.Popen(
            [*command, "--timeout-graceful-shutdown", "5"], cwd=shop, env=environment(), stdout=file, stderr=file
        )
    try:
        wait_for(partial(runs, server, log), "uvicorn runs", 30, log.read_text)
        for path in ["signup?name=ada", "prices", "wait", "rebuild"]:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=20) as answer:
                assert answer.status == 200
        server.send_signal(signal.SIGINT)
        server.wait(30)
    finally:
        server.kill()
        server.wait()

    assert " 0 cut short, 0 left running." in log.read_text()
    with sqlite3.connect(shop / "db.sqlite3") as connection:
        rows = connection.execute("SELECT name, status, result FROM bgtasks_backgroundtask ORDER BY id").fetchall()
    connection.close()
    assert rows == [
        ("shop.tasks.send_welcome", "SUCCESSFUL", '"welcomed ada"'),
        ("shop.tasks.import_prices", "FAILED", None),
        ("shop.tasks.rebuild_index", "SUCCESSFUL", "1"),
        ("shop.tasks.rebuild_index", "SUCCESSFUL", "3"),
    ]


def runs(server: subprocess.Popen[bytes], log: Path) -> bool:
    assert server.poll() is None, log.read_text()
    return "Uvicorn running" in log.read_text()
