"""`python -m benchmarks.seed_rows` fills a database."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests import databases
from tests.servers import ROOT


def seed(folder: Path, database: str, *arguments: str, status: int = 0) -> str:
    command = [sys.executable, "-m", "benchmarks.seed_rows", "--settings", "tests.settings", *arguments]
    environment = {**os.environ, "TESTS_DB_DIR": str(folder), "TESTS_DB_NAME": database}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def count(database: str) -> int:
    return int(databases.query(database, "SELECT count(*) AS number FROM bgtasks_backgroundtask")[0]["number"])


def test_it_fills_an_empty_database_and_no_other(tmp_path: Path, database: str) -> None:
    assert "360 finished and 40 live tasks are in tests.settings" in seed(
        tmp_path, database, "--rows", "400", "--live", "40"
    )
    assert count(database) == 400

    refused = seed(tmp_path, database, "--rows", "100", status=2)
    assert "there are tasks already" in refused
    assert count(database) == 400

    assert "75 finished and 25 live" in seed(tmp_path, database, "--rows", "100", "--force")
    assert count(database) == 500


def test_it_refuses_what_it_cannot_use(tmp_path: Path, database: str) -> None:
    assert "there is no database 'other'" in seed(tmp_path, database, "--database", "other", status=2)
    assert "--rows is at least 1" in seed(tmp_path, database, "--rows", "0", status=2)
