"""Firing where no ASGI server runs: each case is a Python process of its own, which ends by itself."""

from __future__ import annotations

import json
import signal

import pytest

from tests.programs import Program


def test_a_script_that_ends_at_once(program: Program) -> None:
    """Its tasks are drained before the interpreter exits, those with ORM calls and threads included."""
    program.run(
        """
        bgtasks.fire(tasks.sleep, 0.3)
        bgtasks.fire(tasks.use_orm, 1, 0.2)
        bgtasks.fire(tasks.use_orm_in_thread, 2)
        bgtasks.fire(asyncio.sleep(0.2), name="object")
        async def to_thread():
            await asyncio.sleep(0.2)
            await asyncio.to_thread(time.sleep, 0.1)
        bgtasks.fire(to_thread())
        """
    )
    assert program.statuses() == ["SUCCESSFUL"] * 5
    [process] = program.query("SELECT state, has_lifespan FROM bgtasks_process")
    assert process == {"state": "STOPPED", "has_lifespan": 0}
    [drain] = program.query("SELECT asked_by, finished_count FROM bgtasks_drain")
    assert drain == {"asked_by": "the interpreter's exit", "finished_count": 5}


def test_a_script_with_a_task_that_takes_too_long(program: Program) -> None:
    program.run("bgtasks.fire(tasks.sleep, 3600); bgtasks.fire(tasks.sleep_and_rerun, 3600)", TESTS_DRAIN_TIMEOUT="0.3")
    assert program.statuses() == ["INTERRUPTED", "READY"]


def test_an_unhandled_error_and_ctrl_c(program: Program) -> None:
    program.run("bgtasks.fire(tasks.sleep, 0.3); raise SystemExit(3)", status=3)
    program.run("bgtasks.fire(tasks.sleep, 0.3); raise RuntimeError('x')", status=1)
    program.run("bgtasks.fire(tasks.sleep, 0.3); os.kill(os.getpid(), 2); time.sleep(5)", status=-signal.SIGINT)
    assert program.statuses() == ["SUCCESSFUL"] * 3


def test_asyncio_run_ends_and_its_tasks_go_on(program: Program) -> None:
    """The loop of `asyncio.run` ends with its main coroutine, which would cancel a plain asyncio task."""
    program.run(
        """
        async def main():
            bgtasks.fire(tasks.sleep, 0.3)
            handle = await bgtasks.afire(tasks.succeed, 5)
            assert await handle == 5
        asyncio.run(main())
        """
    )
    assert program.statuses() == ["SUCCESSFUL"] * 2


def test_async_to_sync_and_the_test_clients(program: Program) -> None:
    """The loops that asgiref makes for an async view under WSGI end with the view."""
    program.run(
        """
        from asgiref.sync import async_to_sync
        from django.test import AsyncClient, Client
        async def main():
            bgtasks.fire(tasks.sleep, 0.3)
        async_to_sync(main)()
        Client().get("/fire/sleep?args=[0.3]").json()
        async_to_sync(AsyncClient().get)("/fire/sleep?args=[0.3]")
        """
    )
    assert program.statuses() == ["SUCCESSFUL"] * 3


def test_threads(program: Program) -> None:
    program.run(
        """
        def fire_some():
            for number in range(50):
                bgtasks.fire(tasks.succeed, number)
                bgtasks.fire(asyncio.sleep(0), name="object")
        threads = [threading.Thread(target=fire_some) for _ in range(8)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        """,
        TESTS_MAX_RUNNING="3",
    )
    statuses = program.statuses()
    assert len(statuses) == 800
    assert set(statuses) <= {"SUCCESSFUL", "READY"}  # The next process starts the tasks that wait in the table.
    objects = program.query("SELECT DISTINCT status FROM bgtasks_backgroundtask WHERE name = 'object'")
    assert objects == [{"status": "SUCCESSFUL"}]


def test_a_fork(program: Program) -> None:
    """The child has a runtime of its own. No task of the parent is lost or repeated."""
    out = program.run(
        """
        marks = os.environ["FOLDER"] + "/marks"
        bgtasks.fire(tasks.mark, marks, "before", 0.5)
        wait_for(lambda: os.path.exists(marks), "the first one has begun")
        pid = os.fork()
        name = "parent" if pid else "child"
        handle = bgtasks.fire(tasks.mark, marks, name, 0.2)
        if pid:
            os.waitpid(pid, 0)
        """
    )
    lines = sorted((program.folder / "marks").read_text().split("\n")[:-1])
    assert lines == sorted(f"{what} {name}" for what in ("start", "end") for name in ("before", "parent", "child")), out
    assert program.statuses() == ["SUCCESSFUL"] * 3
    assert len(program.query("SELECT id FROM bgtasks_process WHERE state = 'STOPPED'")) == 2


@pytest.mark.databases("sqlite")  # Its file would stay locked for the child.
def test_a_fork_waits_for_the_end_of_a_transaction(program: Program) -> None:
    program.run(
        """
        from django.db.backends.signals import connection_created

        parent, is_writing = os.getpid(), threading.Event()

        def write_slowly(execute, sql, *args):
            answer = execute(sql, *args)
            if "fired_count" in sql and os.getpid() == parent and not is_writing.is_set():
                is_writing.set()
                time.sleep(1)  # The fork has to wait so long.
            return answer

        def slow_down(connection, **kwargs):
            connection.execute_wrappers.append(write_slowly)

        connection_created.connect(slow_down)
        bgtasks.fire(tasks.succeed)
        assert is_writing.wait(20)
        pid = os.fork()
        bgtasks.fire(tasks.succeed)
        if pid:
            os.waitpid(pid, 0)
        """
    )
    assert program.statuses() == ["SUCCESSFUL"] * 3


def test_language_time_zone_and_context_of_the_caller(program: Program) -> None:
    out = program.run(
        """
        import contextvars, zoneinfo
        from asgiref.sync import async_to_sync
        from django.utils import timezone, translation
        variable = contextvars.ContextVar("variable")
        async def look():
            return [translation.get_language(), str(timezone.get_current_timezone()), variable.get()]
        variable.set("mine")
        with translation.override("de"), timezone.override(zoneinfo.ZoneInfo("Asia/Tokyo")):
            handle = bgtasks.fire(look())
        plain = bgtasks.fire(look())
        async def wait(handle):
            return await handle
        print(async_to_sync(wait)(handle), async_to_sync(wait)(plain))
        """
    )
    assert out.strip() == "['de', 'Asia/Tokyo', 'mine'] ['en-us', 'America/Chicago', 'mine']"


def test_a_management_command(program: Program) -> None:
    program.run(
        """
        from django.core.management import call_command
        from django.core.management.base import BaseCommand
        class Command(BaseCommand):
            def handle(self, *args, **options):
                bgtasks.fire(tasks.use_orm, 1, 0.2)
        call_command(Command())
        """
    )
    assert program.statuses() == ["SUCCESSFUL"]


def test_a_command_leaves_alone_what_waits_for_servers(program: Program) -> None:
    """A command ends soon, and would interrupt a task that it claimed."""
    program.run(
        """
        from django.utils import timezone
        from bgtasks.models import BackgroundTask
        BackgroundTask.objects.create(name="tests.app.tasks.sleep", args=[0.1], created_at=timezone.now())
        """
    )
    program.run(
        """
        from bgtasks.models import BackgroundTask
        bgtasks.fire(tasks.sleep, 0.5)
        stays(BackgroundTask.objects.filter(status="READY").exists, 0.3, why="six times POLL_INTERVAL")
        """
    )
    assert program.statuses() == ["READY", "SUCCESSFUL"]


def test_a_failure_is_recorded_before_the_end(program: Program) -> None:
    program.run("bgtasks.fire(tasks.fail, 'no')")
    [row] = program.query("SELECT transitions, error_message FROM bgtasks_backgroundtask")
    assert [entry["status"] for entry in json.loads(row["transitions"])] == ["RUNNING", "FAILED"]
    assert row["error_message"] == "no"


def test_channels_is_not_imported_without_a_channel_layer(program: Program) -> None:
    """Not for a script, a process that claims, or the admin."""
    out = program.run(
        """
        from uuid import uuid4
        from django.contrib.auth.models import User
        from django.core.management import call_command
        from django.test import Client

        bgtasks.fire(tasks.succeed).result(timeout=20)
        call_command("check")
        call_command("run_tasks", "--once")
        client = Client()
        client.force_login(User.objects.create_superuser(str(uuid4())))  # The row stays for later tests.
        assert client.get("/admin/bgtasks/overview/").status_code == 200
        print(sorted(name for name in sys.modules if name.partition(".")[0] == "channels"))
        """
    )
    assert out.splitlines()[-1] == "[]"


def test_channels_is_imported_with_a_channel_layer(program: Program) -> None:
    out = program.run(
        """
        bgtasks.fire(tasks.succeed).result(timeout=20)
        wait_for(lambda: "channels.layers" in sys.modules, "it is imported")
        print("channels.layers" in sys.modules)
        """,
        TESTS_LIVE="1",
    )
    assert out == "True\n"
