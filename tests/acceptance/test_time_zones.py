"""
Projects with USE_TZ=False, west and east of UTC: their columns have naive local time, their histories UTC.

Each case is a process of its own: Django's connections remember the time zone.
"""

from __future__ import annotations

import csv
import io
import json
import textwrap
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.programs import Program

Run = Callable[..., str]

PREAMBLE = """
import json
from datetime import timedelta
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.utils import timezone
from bgtasks import transitions
from bgtasks.conf import get_settings
from bgtasks.models import BackgroundTask
from bgtasks.operations.fire_again import fire_again
from bgtasks.reports.stuck import Finder
from bgtasks.uuid7 import uuid7

def make(status, name="sleep", args=[0], age=0, **values):
    values = {"created_at": timezone.now() - timedelta(seconds=age), "attempt": 1, "max_attempts": 3, **values}
    return BackgroundTask.objects.create(name=f"tests.app.tasks.{name}", status=status, args=args, **values)

def make_running(**values):
    return make("RUNNING", process=uuid7(), started_at=timezone.now(), **values)

def rescue(row):
    assert transitions.give_verdicts("default", row.process, "the test", "it died", 10, counts=True)
"""


@pytest.fixture(params=["America/New_York", "Asia/Tokyo"])
def run(program: Program, request: pytest.FixtureRequest) -> Run:
    """Run a program of a project without time zones."""

    def run(code: str, **environment: str) -> str:
        return program.run(PREAMBLE + textwrap.dedent(code), TESTS_TIME_ZONE=request.param, **environment)

    return run


def moments_of(row: dict[str, Any]) -> Iterator[str]:
    yield from (entry["at"] for entry in json.loads(row["transitions"]))
    if row["progress"] is not None:
        yield json.loads(row["progress"])["at"]
    if row["await_place"] is not None:
        yield json.loads(row["await_place"])["since"]


def test_all_moments_in_a_row_are_utc(run: Run, program: Program) -> None:
    """Of all writers: the journal, a claim, a verdict, a cancellation, the sampler, the task itself."""
    run(
        """
        bgtasks.fire(tasks.succeed).result(timeout=20)
        rescue(make_running(on_lost="rerun"))
        lost = make_running()
        rescue(lost)
        transitions.note_late("default", lost.pk, "the test", "it came late")
        assert transitions.cancel("default", make("READY").pk, "the test", "cancelled")
        claimed = make_running()
        claimed.refresh_from_db()
        assert transitions.give_back("default", claimed.pk, claimed.process, claimed.started_at, "never started")
        assert fire_again("default", [lost.pk], "the test", "again").fired
        make("READY", "wait_deep_down", [3])
        make("READY", "report", [os.environ["FOLDER"] + "/marks", 3, -1])
        """
    )
    run("call_command('run_tasks', '--once')")

    rows = program.query("SELECT status, transitions, progress, await_place FROM bgtasks_backgroundtask")
    assert sorted(row["status"] for row in rows) == ["CANCELLED", "LOST"] + ["SUCCESSFUL"] * 6
    assert sum(row["progress"] is not None for row in rows) == 1
    assert sum(row["await_place"] is not None for row in rows) == 1
    now = datetime.now(UTC)
    for row in rows:
        moments = [datetime.fromisoformat(text) for text in moments_of(row)]
        assert all(text.endswith("+00:00") for text in moments_of(row)), row
        assert all(abs((now - moment).total_seconds()) < 120 for moment in moments), row
        history = moments[: len(json.loads(row["transitions"]))]
        assert history == sorted(history), row


def test_a_task_that_was_handed_back_waits_since_then(run: Run) -> None:
    hand_back = "row = make_running(on_lost='rerun', age=600); rescue(row); print(row.pk)"
    long_ago = run(hand_back, TESTS_CLOCK_OFFSET="-400").strip()
    run(hand_back)

    found = json.loads(
        run(
            """
            found = Finder("default", get_settings(), timezone.now()).find()
            print(json.dumps([[str(task.id), task.kind, task.age] for task in found]))
            """
        )
    )

    [(id_, kind, age)] = found
    assert (id_, kind) == (long_ago, "waiting")
    assert age == pytest.approx(400, abs=60)


def test_documents_for_other_programs_have_utc(run: Run) -> None:
    """The export, also when filtered by the end of tasks, and the commands, in any active time zone."""
    run(
        """
        now = timezone.now()
        make("SUCCESSFUL", started_at=now, finished_at=now)
        make("SUCCESSFUL", age=7200, started_at=now, finished_at=now - timedelta(hours=1))
        """
    )

    out = run(
        """
        client = Client()
        client.force_login(User.objects.create_superuser(str(uuid7())))  # The row stays for later tests.
        seconds = int(time.time())
        address = f"/admin/bgtasks/backgroundtask/export/?finished={seconds - 600}-{seconds + 600}&format="
        with timezone.override("Australia/Sydney"):
            csv, document = (b"".join(client.get(address + kind).streaming_content) for kind in ("csv", "json"))
        print(json.dumps([csv.decode(), json.loads(document)]))
        call_command("top_tasks", "--format", "json")
        """
    )

    exported, _, printed = out.partition("\n")
    lines, document = json.loads(exported)
    [row] = csv.DictReader(io.StringIO(lines))
    [task] = document["tasks"]
    now = datetime.now(UTC)
    for text in (row["finished_at"], task["finished_at"], json.loads(printed)["at"]):
        assert abs((now - datetime.fromisoformat(text)).total_seconds()) < 120, text
