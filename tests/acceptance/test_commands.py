"""The commands as users run them: `manage.py` processes beside servers."""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.db import connections
from django.utils import timezone
from pytest_django import DjangoDbBlocker

from bgtasks.models import BackgroundTask, Process
from tests import databases
from tests.servers import ROOT, Server
from tests.waiting import stays, wait_for

StartServer = Callable[..., Server]

TASKS = ROOT / "tests/app/tasks.py"


class Terminal:
    """The pseudo-terminal of a command."""

    HEIGHT, WIDTH = 40, 220

    def __init__(self, process: subprocess.Popen[str], end: int) -> None:
        self.process = process
        self._end = end
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self.output = ""

    def wait_for(self, text: str, seconds: float = 60) -> None:
        """Read until the text is printed, after the text of the last call."""
        end = time.monotonic() + seconds
        new = ""
        while text not in new:
            assert time.monotonic() < end, f"Not within {seconds} s: {text!r} in {new!r}"
            more = self.read()
            assert more is not None, f"It has ended: {self.output!r}"
            new += more

    def read(self) -> str | None:
        """Return the output that is there; None at the end."""
        if not select.select([self._end], [], [], 0.2)[0]:
            return ""
        try:
            read = os.read(self._end, 65536)
        except OSError:  # The error of Linux when no process has the other end open.
            return None
        more = self._decoder.decode(read)
        self.output += more
        return more if read else None

    def read_to_the_end(self) -> str:
        while self.read() is not None:
            pass
        return self.output

    def close(self) -> None:
        os.close(self._end)


class Manage:
    """Runs `manage.py` on the servers' database."""

    def __init__(self, folder: Path, database: str, blocker: DjangoDbBlocker) -> None:
        self.folder = folder
        self.database = database
        self._blocker = blocker
        self.processes: list[subprocess.Popen[str]] = []
        self.terminals: list[Terminal] = []

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return self._start(list(arguments), environment, stdout=pipe, stderr=pipe)

    def start_on_terminal(self, *arguments: str, **environment: str) -> Terminal:
        """Start a command on a terminal, as a person does."""
        ours, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", Terminal.HEIGHT, Terminal.WIDTH, 0, 0))
        environment = {"TERM": "xterm-256color", "COLUMNS": "", "LINES": "", **environment}
        process = self._start(list(arguments), environment, stdin=its, stdout=its, stderr=its)
        os.close(its)
        self.terminals.append(Terminal(process, ours))
        return self.terminals[-1]

    def _start(self, arguments: list[str], environment: dict[str, str], **streams: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-X", "dev", "manage.py", *arguments],
            cwd=ROOT,
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "tests.settings",
                "TESTS_DB_DIR": str(self.folder),
                "TESTS_DB_NAME": self.database,
                **environment,
            },
            text=True,
            **streams,
        )
        self.processes.append(process)
        return process

    def run(self, *arguments: str, status: int | None = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, **environment)
        out, err = process.communicate(timeout=90)
        assert status is None or process.returncode == status, f"{process.returncode}\n{out}\n{err}"
        assert status == 0 or "Traceback" not in err, err  # The exceptions of tasks are logged there.
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def read(self, *arguments: str, status: int = 0, **environment: str) -> Any:
        """Run a command with `--format json`; its whole output is one document."""
        return json.loads(self.run(*arguments, "--format", "json", status=status, **environment).stdout)

    @contextmanager
    def orm(self) -> Iterator[str]:
        """Yield the alias under which this process's ORM reaches the servers' database: faster than a shell."""
        connections.databases["servers"] = {**connections.databases["default"], "NAME": self.database}
        try:
            with self._blocker.unblock():
                yield "servers"
                connections["servers"].close()
        finally:
            del connections["servers"], connections.databases["servers"]

    def query(self, statement: str) -> list[dict[str, Any]]:
        return databases.query(self.database, statement)

    def statuses(self) -> list[str]:
        return [row["status"] for row in self.query("SELECT status FROM bgtasks_backgroundtask ORDER BY id")]


@pytest.fixture
def manage(database: str, tmp_path: Path, django_db_blocker: DjangoDbBlocker) -> Iterator[Manage]:
    manage = Manage(tmp_path, str(database), django_db_blocker)
    yield manage
    for process in manage.processes:
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
    for terminal in manage.terminals:
        terminal.close()


def process_ids(server: Server, state: str = "ALIVE") -> list[str]:
    rows = server.query(f"SELECT id FROM bgtasks_process WHERE state = '{state}' ORDER BY id")
    return [row["id"] for row in rows]


def wait_for_processes(server: Server, count: int, state: str = "ALIVE") -> list[str]:
    server.wait_until(lambda: len(process_ids(server, state)) == count, f"{count} processes are {state}")
    return process_ids(server, state)


class Load:
    """Requests that fire tasks, one after the other, until the end of the `with` block."""

    def __init__(self, server: Server, path: str) -> None:
        self._url = f"http://127.0.0.1:{server.port}{path}"
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.fired: list[str] = []

    def _run(self) -> None:
        with httpx.Client(timeout=30) as client:
            while not self._is_over.is_set():
                self.fired += client.get(self._url).raise_for_status().json()["ids"]

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._is_over.set()
        self._thread.join(60)
        assert not self._thread.is_alive()


def wait_for_beats(server: Server, count: int) -> None:
    """Wait until each process has beaten `count` times from now on."""

    def read_beats() -> dict[str, int]:
        return {row["id"]: row["beat"] for row in server.query("SELECT id, beat FROM bgtasks_process")}

    before = read_beats()
    server.wait_until(
        lambda: all(beat >= before[id_] + count for id_, beat in read_beats().items()), f"{count} beats of each process"
    )


def make_ready(manage: Manage, name: str, *args: object, queue: str = "default", times: int = 1) -> list[str]:
    """Write rows as another process would leave them, READY; return their ids."""
    now = timezone.now()
    rows = [
        BackgroundTask(name=f"tests.app.tasks.{name}", args=list(args), created_at=now, queue_name=queue)
        for _ in range(times)
    ]
    with manage.orm() as alias:
        return [str(row.pk) for row in BackgroundTask.objects.using(alias).bulk_create(rows)]


# drain_tasks.


@pytest.mark.slow
def test_drain_of_two_servers_under_load(start_server: StartServer, manage: Manage) -> None:
    """After exit code 0 no task starts. Tasks fired meanwhile are READY, and run after `--undo`."""
    servers = [start_server(), start_server()]
    wait_for_processes(servers[0], 2)
    for server in servers:
        server.fire("sleep", 1.5, times=5)
    path = "/fire/sleep?args=[0.02]&times=3"

    with Load(servers[0], path) as first, Load(servers[1], path) as second:
        servers[0].wait_until(lambda: len(first.fired) > 20 and len(second.fired) > 20, "there is load")
        report = manage.read("drain_tasks", "--timeout", "60")
        assert manage.query("SELECT 1 FROM bgtasks_backgroundtask WHERE status = 'RUNNING'") == []
        attempts = started(manage)
        before = len(first.fired) + len(second.fired)
        servers[0].wait_until(lambda: len(first.fired) + len(second.fired) > before + 50, "the load goes on")

    assert report["drained"]
    assert report["running_count"] == 0
    assert {answer["has_answered"] for answer in report["processes"]} == {True}
    assert len(report["processes"]) == 2
    assert started(manage) == attempts  # Not one more.
    servers[0].wait_until(lambda: len(manage.statuses()) == 10 + len(first.fired) + len(second.fired), "all is there")
    assert set(manage.statuses()) == {"SUCCESSFUL", "READY"}
    wait_for_processes(servers[0], 2, "DRAINING")

    out = manage.run("drain_tasks", "--undo").stdout

    assert "2 processes may start tasks again." in out
    servers[0].wait_until(lambda: set(manage.statuses()) == {"SUCCESSFUL"}, "all is successful", 60)
    wait_for_processes(servers[0], 2)
    for server in servers:
        server.stop()


def started(manage: Manage) -> int:
    [row] = manage.query("SELECT COUNT(*) AS number FROM bgtasks_backgroundtask WHERE attempt > 0")
    return int(row["number"])


def test_drain_names_what_is_left(start_server: StartServer, manage: Manage) -> None:
    server = start_server()
    [id_] = server.fire("sleep", 3600)
    server.wait_for_statuses({"RUNNING": 1})

    out = manage.run("drain_tasks", "--timeout", "1", status=1).stdout

    assert "Not drained after 1" in out
    assert f"Still running: tests.app.tasks.sleep {id_} for " in out
    report = manage.read("drain_tasks", "--timeout", "0.5", status=1)
    assert [(task["id"], task["name"]) for task in report["running"]] == [(id_, "tests.app.tasks.sleep")]
    assert (report["drained"], report["running_count"], report["ready_count"]) == (False, 1, 0)
    assert server.count_by_status() == {"RUNNING": 1}  # Never cancelled.
    manage.run("drain_tasks", "--undo")
    server.fire("succeed")
    server.wait_for_statuses({"RUNNING": 1, "SUCCESSFUL": 1})


def test_drain_says_how_far_it_is(start_server: StartServer, manage: Manage) -> None:
    server = start_server()
    may_end = manage.folder / "may end"
    server.fire("wait_for_file", str(may_end))
    server.wait_for_statuses({"RUNNING": 1})

    process = manage.start("drain_tasks", "--timeout", "60")
    assert process.stderr is not None
    err = ""
    while "1 of 1 processes have answered, 1 running" not in err:
        line = process.stderr.readline()
        assert line, err
        err += line
    may_end.touch()
    out, rest = process.communicate(timeout=90)

    assert process.returncode == 0, err + rest
    assert "Drained: nothing runs, and nothing more is started, in 1 process " in out
    assert "\x1b" not in out + err + rest


def test_drain_of_one_process(start_server: StartServer, manage: Manage) -> None:
    servers = [start_server(), start_server()]
    ids = wait_for_processes(servers[0], 2)

    report = manage.read("drain_tasks", "--process", ids[0], "--timeout", "30")

    assert [answer["id"].replace("-", "") for answer in report["processes"]] == [ids[0].replace("-", "")]
    assert process_ids(servers[0], "DRAINING") == [ids[0]]
    assert process_ids(servers[0]) == [ids[1]]


@pytest.mark.slow
def test_drain_does_not_wait_for_a_killed_process(start_server: StartServer, manage: Manage) -> None:
    """The process ran no task. The command finds that it is silent, and names it."""
    server = start_server()
    wait_for_processes(server, 1)
    server.kill()

    report = manage.read("drain_tasks", "--timeout", "60")

    assert report["drained"]
    assert [(answer["has_answered"], answer["is_silent"]) for answer in report["processes"]] == [(False, True)]
    assert "Does not beat any more: uvicorn " in manage.run("drain_tasks", "--timeout", "60").stdout


def test_drain_of_a_host(start_server: StartServer, manage: Manage) -> None:
    server = start_server()
    [id_] = wait_for_processes(server, 1)
    [row] = manage.query("SELECT host FROM bgtasks_process")

    assert "'elsewhere'" in manage.run("drain_tasks", "--host", "elsewhere", status=2).stderr
    assert process_ids(server) == [id_]
    assert len(manage.read("drain_tasks", "--host", row["host"], "--timeout", "30")["processes"]) == 1


def test_drain_misused(manage: Manage) -> None:
    """One example for all commands: tests/integration has the other options."""
    assert "not a number of seconds" in manage.run("drain_tasks", "--timeout", "-1", status=2).stderr


def test_drain_without_processes(manage: Manage) -> None:
    assert manage.read("drain_tasks")["processes"] == []


# run_tasks.


def test_run_once(manage: Manage) -> None:
    """It runs the waiting tasks and the tasks that they fire, then ends."""
    make_ready(manage, "succeed", 1, times=30)
    make_ready(manage, "sleep", 0.3, times=5)
    make_ready(manage, "fail", times=2)
    make_ready(manage, "fire_children", 3)
    manage.query(f"UPDATE bgtasks_backgroundtask SET name = 'nobody.knows.it' WHERE id = '{oldest(manage)}'")

    answer = manage.run("run_tasks", "--once", "--max-running", "4")

    assert "up to 4 at once" in answer.stderr
    assert sorted(set(manage.statuses())) == ["FAILED", "READY", "SUCCESSFUL"]
    assert [manage.statuses().count(status) for status in ("READY", "FAILED", "SUCCESSFUL")] == [1, 2, 38]
    [process] = manage.query("SELECT state, server, has_lifespan FROM bgtasks_process")
    assert process == {"state": "STOPPED", "server": "manage.py run_tasks", "has_lifespan": 1}
    [drain] = manage.query("SELECT asked_by, left_count FROM bgtasks_drain")
    assert drain == {"asked_by": "run_tasks", "left_count": 0}


def oldest(manage: Manage) -> str:
    return str(manage.query("SELECT id FROM bgtasks_backgroundtask ORDER BY id LIMIT 1")[0]["id"])


def test_run_once_with_nothing_to_do(manage: Manage) -> None:
    manage.run("run_tasks", "--once")
    assert manage.statuses() == []


def test_run_of_a_queue(manage: Manage) -> None:
    make_ready(manage, "succeed", queue="mails", times=3)
    make_ready(manage, "succeed", queue="reports", times=2)
    make_ready(manage, "succeed", times=4)

    manage.run("run_tasks", "--once", "--queue", "mails", "--queue", "reports")

    left = manage.query("SELECT DISTINCT queue_name FROM bgtasks_backgroundtask WHERE status = 'READY'")
    assert left == [{"queue_name": "default"}]
    assert sorted(manage.statuses()) == ["READY"] * 4 + ["SUCCESSFUL"] * 5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_run_until_a_signal(manage: Manage, number: int) -> None:
    """Tasks that end in time are successful, the others are interrupted."""
    marks = manage.folder / "marks"
    make_ready(manage, "mark", str(marks), "short", 1.0, times=3)
    make_ready(manage, "mark", str(marks), "long", 3600)
    process = manage.start("run_tasks", TESTS_DRAIN_TIMEOUT="2")
    # The rows change a moment earlier. A task that is claimed but not started would be given back.
    wait_for(lambda: marks.exists() and marks.read_text().count("start") == 4, "all run")
    wait_for(lambda: manage.statuses() == ["RUNNING"] * 4, "the rows say so")

    process.send_signal(number)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 0, err
    assert "Draining: " in err
    assert "1 cut short" in err
    assert manage.statuses() == ["SUCCESSFUL"] * 3 + ["INTERRUPTED"]
    assert "Traceback" not in err
    assert "Task was destroyed" not in err


def test_run_ends_at_once_at_the_second_ctrl_c(manage: Manage) -> None:
    marks = manage.folder / "marks"
    make_ready(manage, "mark", str(marks), "long", 3600)
    process = manage.start("run_tasks", TESTS_DRAIN_TIMEOUT="60")
    wait_for(marks.exists, "it runs")
    wait_for(lambda: manage.statuses() == ["RUNNING"], "its row says so")
    process.send_signal(signal.SIGINT)
    wait_for(lambda: manage.query("SELECT 1 FROM bgtasks_process WHERE state = 'DRAINING'"), "it drains")

    process.send_signal(signal.SIGINT)

    process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGINT
    assert manage.statuses() == ["RUNNING"]


def test_run_is_not_kept_by_a_thread(manage: Manage) -> None:
    """A thread that a task started cannot be stopped, and the interpreter would wait for it."""
    marks = manage.folder / "marks"
    make_ready(manage, "sleep_in_a_thread_of_asyncio", str(marks), 3600)
    process = manage.start("run_tasks", TESTS_DRAIN_TIMEOUT="0.2")
    wait_for(marks.exists, "it runs")
    wait_for(lambda: manage.statuses() == ["RUNNING"], "its row says so")

    process.send_signal(signal.SIGTERM)

    process.communicate(timeout=30)
    assert process.returncode == 0
    assert manage.statuses() == ["INTERRUPTED"]


@pytest.mark.parametrize("name", ["lifespan_shutdown", "drained"])
@pytest.mark.parametrize("sync", ["", "1"], ids=["coroutine", "thread"])
def test_run_is_not_kept_by_a_receiver_that_hangs(manage: Manage, name: str, sync: str) -> None:
    """The end is announced with a time limit: the deadline of the drain and a second."""
    marks = manage.folder / "marks"
    make_ready(manage, "mark", str(marks), "long", 3600)
    process = manage.start("run_tasks", TESTS_DRAIN_TIMEOUT="0.2", TESTS_HANGS=name, TESTS_HANGS_SYNC=sync)
    wait_for(marks.exists, "it runs")
    wait_for(lambda: manage.statuses() == ["RUNNING"], "its row says so")

    process.send_signal(signal.SIGTERM)

    _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert f"The receivers of {name} took longer than" in err
    assert "1 cut short" in err
    assert manage.statuses() == ["INTERRUPTED"]
    assert "Traceback" not in err


def test_run_is_drained_by_the_command(manage: Manage) -> None:
    """The command drains it like any other process. After `--undo` it claims again."""
    process = manage.start("run_tasks")
    wait_for(lambda: manage.query("SELECT 1 FROM bgtasks_process WHERE state = 'ALIVE'"), "it lives")
    assert manage.read("drain_tasks", "--timeout", "30")["drained"]
    make_ready(manage, "succeed", times=3)
    assert manage.read("drain_tasks")["ready_count"] == 3

    manage.run("drain_tasks", "--undo", "--timeout", "30")

    wait_for(lambda: manage.statuses() == ["SUCCESSFUL"] * 3, "all is done")
    process.terminate()
    assert process.wait(60) == 0


# stuck_tasks.


def test_stuck_shows_where_a_task_awaits(start_server: StartServer, manage: Manage) -> None:
    server = start_server()
    [id_] = server.fire("wait_deep_down", 3600)
    [thread] = server.fire("sleep_in_thread", 30)
    server.wait_until(lambda: len(places(server)) == 2, "both places are seen")

    found = {task["id"]: task for task in manage.read("stuck_tasks", "--older-than", "1", status=1)["tasks"]}

    lines = TASKS.read_text().splitlines()
    place = found[id_]["await_place"]
    assert (place["file"], place["function"]) == (str(TASKS), "_numbers")
    assert lines[place["line"] - 1] == "    await asyncio.sleep(seconds)"
    assert lines[place["line"]] == "    yield 1"
    assert found[thread]["await_place"]["function"] == "sleep_in_thread"
    assert (found[id_]["kind"], found[id_]["reason"]) == ("running", "it runs for longer than 1 s")
    table = manage.run("stuck_tasks", "--older-than", "1", status=1).stdout
    assert "2 stuck" in table
    assert f"{TASKS}:{place['line']}" in table
    assert "in _numbers for " in table
    assert "\x1b" not in table
    assert manage.run("stuck_tasks").stdout == "Nothing is stuck.\n"
    server.kill()


def places(server: Server) -> list[Any]:
    return server.query("SELECT await_place FROM bgtasks_backgroundtask WHERE await_place IS NOT NULL")


def test_stuck_lists_the_tasks_of_a_killed_process(start_server: StartServer, manage: Manage) -> None:
    server = start_server()
    [id_] = server.fire("sleep", 3600)
    server.wait_for_statuses({"RUNNING": 1})
    server.kill()

    soon = {"TESTS_DEAD_AFTER": "1.5"}
    wait_for(lambda: manage.run("stuck_tasks", status=None, **soon).returncode == 1, "its process counts as silent")

    [task] = manage.read("stuck_tasks", status=1, **soon)["tasks"]
    assert (task["id"], task["kind"], task["await_place"]) == (id_, "process", None)
    assert "has not beaten for" in task["reason"]


@pytest.mark.slow
def test_stuck_applies_verdicts_when_no_server_is_left(start_server: StartServer, manage: Manage) -> None:
    server = start_server()
    ids = server.fire("sleep", 3600, times=2, recorded=1) + server.fire("sleep_and_rerun", 3600, recorded=1)
    server.fire("succeed", times=50)
    server.wait_for_statuses({"RUNNING": 3, "SUCCESSFUL": 50})
    server.kill()

    report = manage.read("stuck_tasks", "--apply", TESTS_DEAD_AFTER="1.5")

    assert report == {"count": 0, "tasks": [], "verdicts": {"LOST": 2, "READY": 1}}
    statuses = [row["status"] for row in server.rows() if str(row["id"]).replace("-", "") in {*map(_hex, ids)}]
    assert sorted(statuses) == ["LOST", "LOST", "READY"]
    audit = manage.read("audit_tasks")
    assert (audit["ok"], audit["fired"], audit["rows"]) == (True, 53, 53)
    found = manage.read("audit_tasks", "--deaths")
    assert found["deaths"] == 1
    names = {one["name"].rpartition(".")[2]: (one["deaths"], one["running"], one["runs"]) for one in found["suspects"]}
    assert names == {"sleep": (1, 2, 2), "sleep_and_rerun": (1, 1, 1)}
    assert "tests.app.tasks.sleep_and_rerun" in manage.run("audit_tasks", "--deaths").stdout


def _hex(id_: str) -> str:
    return id_.replace("-", "")


def test_stuck_leaves_a_living_process_alone(start_server: StartServer, manage: Manage) -> None:
    server = start_server()
    server.fire("sleep", 3600, times=2, recorded=1)
    assert manage.read("stuck_tasks", "--apply", TESTS_DEAD_AFTER="1.5")["verdicts"] == {}

    report = manage.read("stuck_tasks", "--cancel", "--older-than", "0.1", status=1)

    assert sorted(report["cancelled"]) == sorted(task["id"] for task in report["tasks"])
    server.wait_for_statuses({"CANCELLED": 2})


def test_stuck_lists_what_waits_for_too_long(manage: Manage) -> None:
    ids = make_ready(manage, "succeed", times=2)
    assert manage.read("stuck_tasks") == {"count": 0, "tasks": []}

    # The command above was a process of its own, so the rows are older than 0.2 s by now.
    report = manage.read("stuck_tasks", "--older-than", "0.2", status=1)

    assert {task["id"] for task in report["tasks"]} == set(ids)
    assert {task["kind"] for task in report["tasks"]} == {"waiting"}


@pytest.mark.slow
def test_ten_thousand_live_tasks_are_all_seen_while_the_server_answers(
    start_server: StartServer, manage: Manage
) -> None:
    """Here nothing is timed: `test_maintenance` proves that the sampler works in slices."""
    server = start_server(TESTS_MAX_RUNNING="20000")
    for _ in range(10):
        server.fire("wait_deep_down", 3600, times=1000)

    def is_all_seen() -> bool:
        server.client.get("/state").raise_for_status()
        [row] = server.query("SELECT COUNT(*) AS number FROM bgtasks_backgroundtask WHERE await_place IS NOT NULL")
        return bool(row["number"] == 10_000)

    wait_for(is_all_seen, "all places are seen", 90)

    assert manage.read("stuck_tasks", "--older-than", "1", status=1)["count"] == 1000  # The command lists no more.
    server.kill()


# audit_tasks.


def test_audit_after_a_kill(start_server: StartServer, manage: Manage) -> None:
    """The server is killed while it writes. The count of fired tasks agrees with the table, to the last row."""
    server = start_server(TESTS_DEAD_AFTER="3")
    firing = threading.Thread(target=_fire_until_it_breaks, args=(server,))
    firing.start()
    server.wait_until(lambda: len(server.rows()) > 300, "it writes")
    server.kill()
    firing.join()
    start_server(TESTS_DEAD_AFTER="3")
    audit = manage.read("audit_tasks", "--wait", "30")
    assert (audit["ok"], audit["unaccounted"], audit["being_rescued"]) == (True, 0, 0)
    assert audit["fired"] == sum(audit["by_status"].values())


def _fire_until_it_breaks(server: Server) -> None:
    with contextlib.suppress(httpx.HTTPError):
        while True:
            server.fire("succeed", times=100)


# prune_tasks.


def test_prune(manage: Manage) -> None:
    make_ready(manage, "succeed", times=1200)
    old = "UPDATE bgtasks_backgroundtask SET status = 'SUCCESSFUL', finished_at = '2020-01-31 12:00:00'"
    manage.query(f"{old} WHERE id <> '{oldest(manage)}'")
    # An id holds the moment of firing: make it 2020.
    manage.query(AGE_IDS[databases.KIND])

    assert manage.read("prune_tasks", "--dry-run") == {"dry_run": True, "count": 1199, "pruned": {"SUCCESSFUL": 1199}}
    assert manage.run("prune_tasks", "--dry-run").stdout == "1199 rows would be pruned: 1199 SUCCESSFUL.\n"
    assert len(manage.statuses()) == 1200

    assert manage.run("prune_tasks").stdout == "1199 rows pruned: 1199 SUCCESSFUL.\n"
    assert manage.statuses() == ["READY"]
    assert manage.read("prune_tasks") == {"dry_run": False, "count": 0, "pruned": {}}


AGE_IDS = {
    "sqlite": "UPDATE bgtasks_backgroundtask SET id = '016ffaaa' || substr(id, 9)",
    "postgresql": "UPDATE bgtasks_backgroundtask SET id = ('016ffaaa' || substr(id::text, 9))::uuid",
    "mariadb": "UPDATE bgtasks_backgroundtask SET id = CONCAT('016ffaaa', SUBSTR(id, 9))",
}


# top_tasks.

HOSTILE = "\x1b]0;owned\x07\x1b[2J[bold red]x[/bold red]\u202e\n[/]"  # Escapes, markup, a mark that reverses text.
HARMLESS = r"\x1b]0;owned\x07\x1b[2J[bold red]x[/bold red]\u202e\n[/]"


def make_running(manage: Manage, name: str, **more: object) -> None:
    """Write a row as another process would leave it, RUNNING."""
    now = timezone.now()
    with manage.orm() as alias:
        process = Process.objects.using(alias).create(host=name[:50], pid=7, started_at=now, beat_at=now)
        BackgroundTask.objects.using(alias).create(
            name=name,
            status="RUNNING",
            attempt=1,
            created_at=now,
            process=process.pk,
            started_at=now - timedelta(seconds=90),
            **more,
        )


def test_top_shows_what_runs_and_what_has_ended(start_server: StartServer, manage: Manage) -> None:
    server = start_server()
    [id_] = server.fire("wait_deep_down", 3600)
    server.fire("succeed", times=20)
    server.fire("fail", times=5)
    server.wait_until(lambda: len(places(server)) == 1, "its place is seen")
    server.wait_until(lambda: server.query("SELECT 1 FROM bgtasks_rollup"), "ends are counted")
    server.wait_until(lambda: manage.read("top_tasks")["day"]["failed"] == 5, "all ends are counted")

    shown = manage.read("top_tasks")

    [task] = shown["tasks"]
    assert (task["id"], task["name"]) == (id_, "tests.app.tasks.wait_deep_down")
    assert task["process_name"].startswith("uvicorn ")
    assert task["await_place"]["function"] == "_numbers"
    assert (task["p95"], task["measured"]) == (None, 0)
    assert shown["day"]["successful"] == 20
    assert shown["day"]["failed_part"] == 0.2
    assert (shown["processes"]["alive"], shown["processes"]["died"]) == (1, 0)
    functions = {one["name"].rpartition(".")[2]: (one["ended"], one["measured"]) for one in shown["functions"]}
    assert functions == {"succeed": (20, 20), "fail": (5, 5)}
    out = manage.run("top_tasks").stdout  # Without a terminal the command ends by itself.
    assert "tests.app.tasks.wait_deep_down" in out
    assert "in _numbers, " in out
    assert "\x1b" not in out


def test_top_prints_hostile_names_as_text(manage: Manage) -> None:
    place = {"file": HOSTILE, "line": HOSTILE, "function": "f", "since": "2999-01-01T00:00:00+00:00"}
    make_running(manage, HOSTILE, key=HOSTILE, await_place=place, progress={"done": 1, "total": 2, "note": HOSTILE})

    out = manage.run("top_tasks", "--once").stdout

    assert HARMLESS in out
    assert "\x1b" not in out
    assert "\u202e" not in out
    document = manage.run("top_tasks", "--format", "json").stdout
    assert json.loads(document)["tasks"][0]["name"] == HOSTILE
    assert "\x1b" not in document
    terminal = manage.start_on_terminal("top_tasks", "--once")
    shown = terminal.read_to_the_end()
    assert terminal.process.wait(60) == 0
    assert r"\x1b]0;owned\x07" in shown
    assert "\x1b]" not in shown
    assert "\x1b[2J" not in shown


def test_stuck_and_drain_print_hostile_names_as_text(manage: Manage) -> None:
    make_running(manage, HOSTILE)

    for command in (["stuck_tasks", "--older-than", "1"], ["drain_tasks", "--timeout", "0"]):
        out = manage.run(*command, status=1).stdout
        assert HARMLESS in out
        assert "\x1b" not in out


def test_top_stays_on_a_terminal_until_ctrl_c(manage: Manage) -> None:
    make_running(manage, "shop.tasks.first")
    terminal = manage.start_on_terminal("top_tasks", "--interval", "0.2")
    terminal.wait_for("shop.tasks.first")

    make_running(manage, "shop.tasks.second")
    terminal.wait_for("shop.tasks.second")
    manage.query("ALTER TABLE bgtasks_rollup RENAME TO bgtasks_gone")  # As in a short outage of the database.
    terminal.wait_for("The database cannot be used")
    manage.query("ALTER TABLE bgtasks_gone RENAME TO bgtasks_rollup")
    make_running(manage, "shop.tasks.third")
    terminal.wait_for("shop.tasks.third")
    terminal.process.send_signal(signal.SIGINT)

    shown = terminal.read_to_the_end()
    assert terminal.process.wait(60) == 0
    assert "Traceback" not in shown
    assert shown.rindex("\x1b[?1049l") > shown.rindex("\x1b[?1049h")  # The screen is restored,
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # and the cursor is visible.


def test_top_leaves_the_terminal_in_order_at_sigterm(manage: Manage) -> None:
    terminal = manage.start_on_terminal("top_tasks", "--interval", "3600")
    terminal.wait_for("Nothing runs.")

    terminal.process.send_signal(signal.SIGTERM)

    shown = terminal.read_to_the_end()
    assert terminal.process.wait(60) == 0
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")


def test_top_without_colours(manage: Manage) -> None:
    make_running(manage, "shop.tasks.first")

    for arguments, environment in (([], {}), (["--no-color"], {}), ([], {"NO_COLOR": "1"})):
        terminal = manage.start_on_terminal("top_tasks", "--once", *arguments, **environment)
        shown = terminal.read_to_the_end()
        assert ("\x1b[1;32m" in shown) == (not arguments and not environment), shown  # Bold green.


# Cancelling.


def test_cancel_from_another_process(start_server: StartServer, manage: Manage) -> None:
    server = start_server()
    [id_] = server.fire("sleep", 3600)
    server.wait_for_statuses({"RUNNING": 1})

    code = f"""
        from uuid import UUID
        from bgtasks import transitions
        print(transitions.cancel("default", UUID("{id_}"), "a shell", "by hand"))
    """
    out = manage.run("shell", "--no-imports", "-c", textwrap.dedent(code)).stdout
    asked_at = time.monotonic()

    assert out.strip() == "Cancellation.ASKED"  # The process of the task cancels it.
    server.wait_for_statuses({"CANCELLED": 1})
    assert time.monotonic() - asked_at < 10  # POLL_INTERVAL is 0.05 s here; the machine may be busy.
    server.stop()


# All of them.


@pytest.mark.parametrize(
    "command",
    [["drain_tasks"], ["run_tasks", "--once"], ["stuck_tasks"], ["prune_tasks"], ["top_tasks"]],
    ids=lambda command: command[0],
)
def test_a_database_without_tables(manage: Manage, tmp_path: Path, command: list[str]) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()

    answer = manage.run(*command, status=2, TESTS_DB_DIR=str(empty), TESTS_DB_NAME=databases.MAINTENANCE)

    assert "Run `manage.py migrate`." in answer.stderr
    assert answer.stdout == ""


# Pausing.


@pytest.mark.slow
def test_what_is_paused_starts_nowhere_until_it_is_resumed(start_server: StartServer, manage: Manage) -> None:
    servers = [start_server(), start_server()]
    wait_for_processes(servers[0], 2)
    assert "tests.app.tasks.succeed is paused" in manage.run("pause_tasks", "tests.app.tasks.succeed").stdout
    wait_for_beats(servers[0], 2)  # A process reads the pauses more often than it beats.

    paused = [id_ for server in servers for id_ in server.fire("succeed", 5, times=3)]
    for server in servers:  # Functions that are not paused run.
        server.fire("sleep", 0.01, wait=1)
    servers[0].wait_until(lambda: manage.statuses().count("READY") == len(paused), "all that is paused waits")
    why = "thirty times POLL_INTERVAL, the time between two claims"
    stays(lambda: manage.statuses().count("READY") == len(paused), 1.5, why=why)
    assert [row["name"] for row in manage.read("pause_tasks")["pauses"]] == ["tests.app.tasks.succeed"]

    assert "goes on" in manage.run("resume_tasks", "tests.app.tasks.succeed").stdout
    servers[0].wait_for_statuses({"SUCCESSFUL": len(paused) + 2})


def test_a_wrong_name_is_not_paused(manage: Manage) -> None:
    refused = manage.run("pause_tasks", "tests.app.tasks.suceed", status=2)
    assert "Did you mean tests.app.tasks.succeed?" in refused.stderr
    assert manage.read("pause_tasks")["pauses"] == []
