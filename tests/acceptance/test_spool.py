"""Rows that could not be written before the end of a process are written after the next start."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bgtasks.journal import spool
from tests import databases
from tests.servers import Server


@pytest.fixture
def start(start_server: Callable[..., Server], tmp_path: Path) -> Callable[..., Server]:
    def start(**options: Any) -> Server:
        return start_server(**{"TESTS_SPOOL_PATH": str(tmp_path / "spool"), "TESTS_DRAIN_TIMEOUT": "1", **options})

    return start


def files(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "spool").glob("*"))


def stop_during_an_outage(start: Callable[..., Server], tmp_path: Path) -> list[str]:
    """Fire and finish tasks while the database is locked, then stop the server; return the ids."""
    server = start()
    before = server.fire("sleep", 1, times=3, recorded=1)
    server.fire("sleep_and_rerun", 3600, recorded=1)
    with databases.WriteLock(server.database, ("bgtasks_backgroundtask", "bgtasks_process")):
        during = server.fire("succeed", "{}", times=20) + server.fire("fail") + server.fire("sleep", 3600)
        during += server.fire("sleep_and_rerun", 3600)
        server.stop(timeout=60)
    assert "the next start reads them" in server.log
    assert len(files(tmp_path)) == 1
    return before + during


def test_nothing_is_missing_after_the_next_start(start: Callable[..., Server], tmp_path: Path) -> None:
    ids = stop_during_an_outage(start, tmp_path)
    server = start(TESTS_MAX_RUNNING="1")
    server.wait_until(lambda: not files(tmp_path), "the file is read")
    server.wait_until(lambda: server.count_by_status().get("RUNNING") == 1, "what may run again does")
    assert server.count_by_status() == {"SUCCESSFUL": 23, "FAILED": 1, "INTERRUPTED": 1, "READY": 1, "RUNNING": 1}
    assert len(server.rows()) == len(ids) + 1
    failed = next(row for row in server.rows() if row["status"] == "FAILED")
    assert "as asked" in failed["error_message"]
    fired = server.query("SELECT SUM(fired_count) AS number FROM bgtasks_process")[0]["number"]
    assert fired == 27


@pytest.mark.slow
def test_reading_it_twice_changes_nothing(start: Callable[..., Server], tmp_path: Path) -> None:
    """The reader died before it deleted the file, a part of which is damaged."""
    stop_during_an_outage(start, tmp_path)
    [name] = files(tmp_path)
    kept = (tmp_path / "spool" / name).read_text()
    server = start(TESTS_MAX_RUNNING="1")
    server.wait_until(lambda: not files(tmp_path), "the file is read")
    server.wait_until(lambda: server.count_by_status().get("RUNNING") == 1, "it runs again")
    server.kill()
    before = [row for row in server.rows() if row["finished_at"] is not None]

    lines = kept.splitlines()
    damaged = [lines[0].replace("succeed", "secceed"), lines[1][: len(lines[1]) // 2], "no line of ours"]
    (tmp_path / "spool" / f"{name}.0197c2f0-0000-7000-8000-000000000000").write_text("\n".join([*damaged, *lines[2:]]))
    again = start(TESTS_MAX_RUNNING="1")
    again.wait_until(lambda: any(found.endswith(".damaged") for found in files(tmp_path)), "the file is read")
    [aside] = files(tmp_path)
    assert (tmp_path / "spool" / aside).read_text().splitlines() == damaged
    after = {row["id"]: row for row in again.rows()}
    assert [after[row["id"]] for row in before] == before
    assert len(after) == len(before) + 2
    again.wait_until(lambda: "3 damaged lines are kept" in again.log, "it is said")


def test_a_line_is_what_was_written(start: Callable[..., Server], tmp_path: Path) -> None:
    stop_during_an_outage(start, tmp_path)
    [name] = files(tmp_path)
    path = tmp_path / "spool" / name
    assert path.stat().st_mode & 0o777 == 0o600  # Arguments may be private.
    for line in path.read_text().splitlines():
        process, _, record = spool.decode(line, {})
        assert name == f"{name[:21]}{process}.jsonl"
        assert json.loads(line.partition(" ")[2])["id"] == str(record.id)
