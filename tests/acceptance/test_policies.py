"""Keys, checkpoints, results and options in several processes, some of which are killed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.test_rescue import read_starts, wait_for
from tests.servers import Server

pytestmark = pytest.mark.slow  # Each starts servers.

FIRINGS = 20


@pytest.fixture
def start(start_server: Callable[..., Server]) -> Callable[..., Server]:
    def start(**options: Any) -> Server:
        return start_server(**{"TESTS_DEAD_AFTER": "3", **options})

    return start


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    path = tmp_path / "marks.txt"
    path.touch()
    return path


def using(**options: Any) -> str:
    return json.dumps(options)


def fire_together(server: Server, key: str, marks: Path, conflict: str, seconds: float) -> dict[str, Any]:
    query = {"args": json.dumps([str(marks), key, seconds]), "times": FIRINGS, "together": 1}
    answer = server.client.get("/fire/mark", params={**query, "using": using(key=key, on_conflict=conflict)})
    answer.raise_for_status()
    return dict(answer.json())


@pytest.mark.parametrize("conflict", ["existing", "error"])
def test_one_key_in_three_processes_at_once(start: Callable[..., Server], marks: Path, conflict: str) -> None:
    servers = [start() for _ in range(3)]
    keys = ["one", "One", "two"]
    with ThreadPoolExecutor(len(servers) * len(keys)) as threads:
        asked = [
            (key, threads.submit(fire_together, server, key, marks, conflict, 8)) for key in keys for server in servers
        ]
        answers = [(key, answer.result()) for key, answer in asked]
    for key in keys:
        ids = {id_ for other, answer in answers if other == key for id_ in answer["ids"]}
        errors = Counter(error for other, answer in answers if other == key for error in answer["errors"])
        assert len(ids) == 1
        expected = {} if conflict == "existing" else {"KeyConflict": len(servers) * FIRINGS - 1}
        assert errors == expected
    servers[0].wait_for_statuses({"SUCCESSFUL": len(keys)})
    assert read_starts(marks) == dict.fromkeys(keys, 1)
    [row] = servers[0].query("SELECT SUM(fired_count) AS number FROM bgtasks_process")
    assert row["number"] == len(keys)


def test_a_killed_process_frees_its_keys_and_a_rerun_keeps_them(start: Callable[..., Server], marks: Path) -> None:
    first = start()
    lost = first.fire("mark", str(marks), "lost", 3600, recorded=1, using=using(key="lost"))
    again = first.fire("mark_and_rerun", str(marks), "again", 3600, recorded=1, using=using(key="again"))
    first.wait_until(lambda: read_starts(marks).total() == 2, "both have started")
    second = start()
    taken = second.fire("mark", str(marks), "other", 0, recorded=1, using=using(key="again"))
    assert taken == again
    assert second.fire("mark", str(marks), "other", 0, recorded=1, using=using(key="lost")) == lost
    first.kill()
    wait_for(second, lost, {"LOST": 1})
    wait_for(second, again, {"SUCCESSFUL": 1})
    new = second.fire("mark", str(marks), "new", 0, recorded=1, using=using(key="lost"))
    wait_for(second, new, {"SUCCESSFUL": 1})
    assert read_starts(marks) == {"lost": 1, "again attempt 1": 1, "again attempt 2": 1, "new": 1}
    assert not [row for row in second.rows() if row["live_key"] is not None]


@pytest.mark.parametrize("task", ["report", "report_in_thread"])
def test_a_report_goes_on_where_a_killed_process_was(start: Callable[..., Server], marks: Path, task: str) -> None:
    first = start()
    ids = first.fire(task, str(marks), 10, 6, recorded=1)

    def is_kept() -> bool:
        [row] = first.rows()
        return row["checkpoint"] is not None and int(row["checkpoint"]) == 6

    first.wait_until(is_kept, "six pages are kept")
    first.kill()
    second = start()
    answer = second.client.get(f"/result/{ids[0]}", timeout=90)
    assert answer.json() == {"result": [6, 10]}
    pages = marks.read_text().splitlines()
    assert pages == [f"page {page} attempt {1 if page < 6 else 2}" for page in range(10)]
    wait_for(second, ids, {"SUCCESSFUL": 1})
    [row] = second.rows()
    assert json.loads(row["progress"])["done"] == 10
    assert row["attempt"] == 2


def test_a_result_is_had_in_another_process(start: Callable[..., Server]) -> None:
    first, second = start(), start()
    [id_] = first.fire("sleep", 0.5, recorded=1)
    assert second.client.get(f"/result/{id_}").json() == {"result": 0.5}
    [id_] = first.fire("sleep", 0.5, recorded=1)
    assert second.client.get(f"/result-sync/{id_}").json() == {"result": 0.5}
    assert first.client.get(f"/result-sync/{id_}").json() == {"result": 0.5}


def test_options_of_the_firing_hold_in_the_process_that_claims(start: Callable[..., Server], tmp_path: Path) -> None:
    """The process that fired it is killed before it has a free slot."""
    first = start(TESTS_MAX_RUNNING="1")
    first.fire("sleep", 3600, recorded=1)
    options = {
        "timeout": 0.3,
        "max_attempts": 2,
        "backoff": "constant",
        "backoff_first": 0.1,
        "queue": "slow",
        "priority": 5,
    }
    slow = first.fire("wait_for_file", str(tmp_path / "never"), recorded=1, using=using(**options))
    wait_for(first, slow, {"READY": 1})
    first.kill()
    second = start()
    wait_for(second, slow, {"FAILED": 1})
    row = next(row for row in second.rows() if str(row["id"]).replace("-", "") == slow[0].replace("-", ""))
    assert (row["attempt"], row["queue_name"], row["priority"]) == (2, "slow", 5)
    assert "timeout of 0.3 s" in row["error_message"]
