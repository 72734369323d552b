"""The activity for the commands and the admin, read from rows, at a cost that finished rows do not raise."""

from __future__ import annotations

import io
import json
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from bgtasks.conf import get_settings
from bgtasks.models import BackgroundTask, Process, Rollup
from bgtasks.models.histogram import bin_of
from bgtasks.reports import activity
from bgtasks.reports.activity import Progress, live_tasks, look
from bgtasks.status import Status
from tests import tables
from tests.servers import ROOT

pytestmark = pytest.mark.django_db

NAME = "shop.tasks.send"


def make_process(**more: Any) -> Process:
    now = timezone.now()
    values = {"host": "web-1", "pid": 4312, "server": "uvicorn", "started_at": now, "beat_at": now}
    return Process.objects.create(**(values | more))


def make_running(age: float = 5.0, **more: Any) -> BackgroundTask:
    started = timezone.now() - timedelta(seconds=age)
    values = {"name": NAME, "status": Status.RUNNING, "attempt": 1, "created_at": started, "started_at": started}
    return BackgroundTask.objects.create(**(values | {"process": uuid4()} | more))


def make_rollup(ago: timedelta, took: dict[float, int], name: str = NAME, **statuses: int) -> None:
    """Write tasks that ended so long ago as the rollup writer does: in each resolution."""
    moment = timezone.now() - ago
    tasks = {name: {"statuses": statuses, "took": {bin_of(s): n for s, n in took.items()}, "waited": {}}}
    for resolution in Rollup.Resolution:
        starts_at = moment - timedelta(seconds=moment.timestamp() % resolution)
        Rollup.objects.create(process=uuid4(), resolution=resolution, starts_at=starts_at, tasks=tasks)


def look_now(limit: int = 20) -> activity.Activity:
    return look("default", get_settings(), timezone.now(), limit)


def moment(ago: float) -> str:
    return (timezone.now() - timedelta(seconds=ago)).isoformat()


# Running tasks.


def test_a_running_task_is_listed_with_the_usual_time_of_its_function() -> None:
    process = make_process()
    row = make_running(4.0, process=process.pk, key="mail:5", fired_by={"method": "POST", "path": "/signup"})
    make_rollup(timedelta(hours=5), {1.0: 190, 2.0: 10}, SUCCESSFUL=200)

    [task] = look_now().tasks

    assert (task.id, task.name, task.key, task.status, task.attempt) == (row.pk, NAME, "mail:5", "RUNNING", 1)
    assert (task.process, task.process_name) == (process.pk, "uvicorn web-1:4312")
    assert task.elapsed == pytest.approx(4.0, abs=2.0)
    assert task.p95 == pytest.approx(1.0, rel=0.1)
    assert task.measured == 200
    assert task.part_of_p95 == pytest.approx(task.elapsed / task.p95)
    assert task.fired_by == {"method": "POST", "path": "/signup"}
    assert task.loop_blocked is None
    assert not task.is_cancel_requested


def test_a_function_that_was_never_measured_has_no_p95() -> None:
    make_running()

    [task] = look_now().tasks

    assert (task.p95, task.measured, task.part_of_p95, task.process_name) == (None, 0, None, "")


def test_those_fired_first_come_first_and_no_more_than_the_limit() -> None:
    ids = [make_running(age, id=UUID(int=number << 80)).pk for number, age in enumerate([1, 9, 5], 1)]

    shown = look_now(limit=2)

    assert [task.id for task in shown.tasks] == ids[:2]
    assert shown.running_count == 3


def test_waiting_tasks_are_listed_on_demand() -> None:
    make_running()
    waiting = make_running(status=Status.READY, started_at=None, attempt=0, process=None)

    [task] = live_tasks("default", timezone.now(), 10, Status.READY)

    assert (task.id, task.status) == (waiting.pk, "READY")
    assert task.elapsed == pytest.approx(5.0, abs=2.0)


def test_the_place_is_that_of_this_attempt() -> None:
    place = {"file": "/srv/shop/tasks.py", "line": 42, "function": "send", "since": moment(3)}
    make_running(10, await_place=place, id=UUID(int=1 << 80))
    make_running(1, await_place=place, attempt=2, id=UUID(int=2 << 80))

    here, earlier = look_now().tasks

    assert here.await_place == place
    assert here.awaits_for == pytest.approx(3.0, abs=2.0)
    assert (earlier.await_place, earlier.awaits_for) == (None, None)


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ({"done": 3, "total": 12, "note": "reading"}, Progress(3, 12, "reading")),
        ({"done": 3, "total": None, "note": ""}, Progress(3, None, "")),
        ({"done": 3}, Progress(3, None, "")),
        ({"done": "3", "total": 4}, None),
        ({"done": 1, "total": -4, "note": 5}, Progress(1, None, "5")),
        ({"done": 10**150, "total": 1}, None),
        (["done"], None),
        ("half", None),
    ],
)
def test_of_the_stored_progress_nothing_is_taken_for_granted(stored: Any, expected: Progress | None) -> None:
    make_running(progress=stored)

    [task] = look_now().tasks

    assert task.progress == expected


def test_progress_is_a_part_where_the_total_is_known() -> None:
    assert Progress(3, 12, "").part == 0.25
    assert Progress(15, 12, "").part == 1.0
    assert Progress(3, None, "").part is None
    assert Progress(0, 0, "").part is None


@pytest.mark.parametrize(
    "place", ["here", [], {}, {"since": "noon"}, {"since": 5}, {"since": "2026-02-30T00:00:00+00:00"}]
)
def test_a_malformed_place_is_none(place: Any) -> None:
    make_running(await_place=place, fired_by="nobody")

    [task] = look_now().tasks

    assert (task.await_place, task.fired_by) == (None, None)


def test_a_place_without_an_offset_is_read_as_utc() -> None:
    since = (timezone.now() - timedelta(seconds=2)).replace(tzinfo=None).isoformat()
    make_running(await_place={"file": "a.py", "line": 1, "function": "f", "since": since})

    [task] = look_now().tasks

    assert task.awaits_for == pytest.approx(2.0, abs=2.0)


# Counts.


def test_processes_are_counted_by_how_they_are() -> None:
    now = timezone.now()
    silent = now - timedelta(seconds=get_settings().dead_after + 60)
    make_process()
    make_process(beat_at=None)  # It has just started.
    make_process(blocked_since=now)
    make_process(state=Process.State.DRAINING)
    make_process(beat_at=silent)
    make_process(beat_at=silent, state=Process.State.DRAINING, blocked_since=silent)
    make_process(state=Process.State.DEAD, stopped_at=now)
    make_process(state=Process.State.DEAD, stopped_at=now - timedelta(days=2))
    make_process(state=Process.State.STOPPED, stopped_at=now)

    assert look_now().processes == activity.ProcessCounts(alive=4, blocked=1, draining=1, silent=2, died=1)


def test_the_day_is_that_of_the_rollups() -> None:
    make_rollup(timedelta(minutes=1), {0.1: 4}, SUCCESSFUL=3, FAILED=1)
    make_rollup(timedelta(hours=20), {0.1: 5}, SUCCESSFUL=5, LOST=2, INTERRUPTED=1, CANCELLED=4)
    make_rollup(timedelta(hours=30), {0.1: 5}, SUCCESSFUL=100)

    day = look_now().day

    assert day == activity.Day(successful=8, failed=1, interrupted=1, lost=2, cancelled=4)
    assert day.failed_part == pytest.approx(1 / 9)


def test_nothing_has_happened() -> None:
    shown = look_now()

    assert (shown.running_count, shown.waiting_count, shown.tasks, shown.functions) == (0, 0, [], [])
    assert shown.day.failed_part is None
    assert shown.processes == activity.ProcessCounts(0, 0, 0, 0, 0)


def test_functions_of_the_hour_the_busiest_first() -> None:
    make_rollup(timedelta(minutes=5), {0.5: 10, 8.0: 10}, "shop.a", SUCCESSFUL=18, FAILED=2)
    make_rollup(timedelta(minutes=6), {}, "shop.b", SUCCESSFUL=30, CANCELLED=1)
    make_rollup(timedelta(minutes=7), {1.0: 1}, "shop.c", SUCCESSFUL=1)
    make_rollup(timedelta(hours=2), {1.0: 1}, "shop.d", SUCCESSFUL=1000)

    first, second = look_now(limit=2).functions

    assert (first.name, first.ended, first.successful, first.failed, first.measured) == ("shop.b", 31, 30, 0, 0)
    assert (first.p50, first.p95) == (None, None)
    assert (second.name, second.ended, second.successful, second.failed, second.measured) == ("shop.a", 20, 18, 2, 20)
    assert second.p50 == pytest.approx(0.5, rel=0.1)
    assert second.p95 == pytest.approx(8.0, rel=0.1)


def test_no_more_are_counted_than_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "MAX_COUNT", 2)
    for _ in range(3):
        make_running()

    assert look_now().running_count == 2


# Cost.


def test_it_takes_the_same_queries_however_much_there_is() -> None:
    make_running(process=make_process().pk)
    make_rollup(timedelta(minutes=1), {1.0: 1}, SUCCESSFUL=1)
    with CaptureQueriesContext(connection) as one:
        look_now()
    for number in range(30):
        make_running(process=make_process(pid=number).pk, name=f"shop.tasks.number_{number}")
        make_rollup(timedelta(minutes=number), {1.0: 1}, f"shop.tasks.number_{number}", SUCCESSFUL=1)

    with CaptureQueriesContext(connection) as many:
        look_now(limit=100)

    assert len(many) == len(one) == 7


@pytest.mark.parametrize("analyzed", ["empty", "full"])
@pytest.mark.django_db(transaction=True)
def test_it_reads_no_finished_rows(analyzed: str) -> None:
    """The plan does not depend on the database's statistics."""
    with tables.frozen_statistics():
        tables.analyze()
        tables.Table(live=20).fill(4000)
        if analyzed == "full":
            tables.analyze()

        work = tables.count_work(look_now)

        assert work <= tables.count_work(read_all_rows) / 2


def read_all_rows() -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {BackgroundTask._meta.db_table} WHERE error_message = 'no index on this'")


# The command.


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("top_tasks", *arguments, stdout=out)
    return out.getvalue()


def test_the_command_prints_one_picture_where_there_is_no_terminal() -> None:
    make_running(4.0, process=make_process().pk, key="mail:5", progress={"done": 1, "total": 4, "note": "reading"})
    make_rollup(timedelta(minutes=5), {8.0: 200}, SUCCESSFUL=200, FAILED=1)

    out = run()

    assert "Running 1   Waiting 0" in out
    assert "succeeded 200   failed 1 (0.5 %)   lost 0" in out
    assert "Processes: alive 1   blocked 0" in out
    assert f"{NAME} mail:5" in out
    assert " % of 7.5 s" in out
    assert "uvicorn web-1:4312" in out
    assert "25 % of 4 reading" in out
    assert "Ended in the last hour" in out


def test_the_command_says_that_there_is_nothing() -> None:
    out = run("--once")

    assert "Nothing runs." in out
    assert "Nothing has ended in the last hour." in out


def test_the_json_has_the_documented_keys() -> None:
    make_running(process=make_process().pk)
    make_rollup(timedelta(minutes=5), {8.0: 200}, SUCCESSFUL=199, FAILED=1)

    document = json.loads(run("--format", "json"))

    keys = {"at", "running_count", "waiting_count", "day", "processes", "tasks", "functions"}
    assert set(document) == keys
    assert set(document["day"]) == {"successful", "failed", "interrupted", "lost", "cancelled", "failed_part"}
    assert document["day"]["failed_part"] == 0.005
    section = (ROOT / "docs/commands.md").read_text().partition("\n## top_tasks\n")[2].partition("\n## ")[0]
    parts = [document, document["day"], document["processes"], document["tasks"][0], document["functions"][0]]
    assert [key for part in parts for key in part if f"`{key}`" not in section] == []
    assert document["tasks"][0]["name"] == NAME
    assert document["functions"][0]["p95"] == pytest.approx(8.0, rel=0.1)


@pytest.mark.parametrize("width", [40, 80, 120, 160, 250])
def test_a_task_takes_one_line_at_any_width(width: int) -> None:
    from rich.console import Console

    from bgtasks.management.activity_view import ActivityView

    long = "shop.a_module_with_a_long_name.tasks.do_what_takes_long_to_say_and_longer_to_do"
    for number in range(5):
        progress = {"done": number, "total": 4000, "note": "reading one file after the other"}
        place = {"file": "/srv/shop/a/b/tasks.py", "line": 4, "function": "wait_for_the_answer", "since": moment(3)}
        more = {"key": f"customer:{number:0150}", "attempt": 3, "cancel_requested_at": timezone.now()}
        make_running(900, name=f"{long}_{number}", progress=progress, await_place=place, **more)
    make_rollup(timedelta(minutes=5), {8.0: 200}, f"{long}_1", SUCCESSFUL=199, FAILED=1)
    out = io.StringIO()
    console = Console(file=out, width=width)

    console.print(ActivityView(look_now(), height=24))

    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert sum("do" in line and "15 min" in line for line in lines) == 5
    if width >= 80:
        assert len(lines) <= 24
