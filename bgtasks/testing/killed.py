"""Kill tests: a task runs in a real process, which is killed, and gets its declared verdict."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connections, router

from ..conf import get_settings
from ..definition import Task, arguments
from ..maintenance.rescue import declare_dead, rescue
from ..models import BackgroundTask, Process
from .database import check_database

LONGEST_START = 60.0  # Seconds in which the other process must set up the project and start the task.
_START = "from bgtasks.servers.victim import main; main()"


class killed:  # noqa: N801, RUF100  # Its users call it like a function.
    """
    Run a task in a process of its own, and kill that process at the end of the block, as `kill -9` does.

    `with killed(build_report, 42) as victim:`, or `async with`. The block begins when the task is recorded and runs.
    The wait inside the block decides where the task is cut off. After the block the process is dead, and the task has
    its verdict at once, without the wait of DEAD_AFTER.

    Args:
        task: a task function, or a `.using()` variant, at the top level of a module that another process can import.
        args: its arguments.
        kwargs: the same by keyword.

    Attributes:
        pid: the id of the process.
        row: the task's row, as it was at the beginning of the block, and after the block with its verdict.

    Raises:
        TypeError: another process cannot run the task, or the arguments do not fit.
        RuntimeError: another process could not see the data of this test, which has a transaction or an SQLite database
            in memory; or the process could not start.
    """

    pid: int
    row: BackgroundTask

    def __init__(self, task: Task[..., Any], /, *args: Any, **kwargs: Any) -> None:
        if not isinstance(task, Task):
            raise TypeError(f"Another process can run a function under @bgtasks.task only, not {task!r:.200}.")
        texts = arguments.encode(args, kwargs, get_settings().max_args_bytes, lambda index: f"args[{index}]")
        self._order = {
            "module": task.func.__module__,
            "name": task.name,
            "on_lost": task.on_lost,
            "stuck_after": task.stuck_after,
            "args": json.loads(texts[0]),
            "kwargs": json.loads(texts[1]),
        }

    def __enter__(self) -> killed:
        check_database()
        if "DJANGO_SETTINGS_MODULE" not in os.environ:
            raise RuntimeError("Set DJANGO_SETTINGS_MODULE: the other process finds the project by it.")
        self._alias = router.db_for_write(BackgroundTask)
        reading, writing = os.pipe()
        with open(reading) as answer:
            self._victim = subprocess.Popen([sys.executable, "-c", _START], stdin=subprocess.PIPE, pass_fds=[writing])  # noqa: S603
            os.close(writing)
            self.pid = self._victim.pid
            try:
                self._send_order(writing)
                is_there = select.select([answer], [], [], LONGEST_START)[0]
                self._take_answer(answer.readline() if is_there else "")
            except BaseException:
                self._kill()
                raise
        return self

    def __exit__(self, *of_block: object) -> None:
        self._kill()
        process = Process.objects.using(self._alias).get(pk=self._process)
        declare_dead(self._alias, process.pk, process.beat)
        for _ in rescue(self._alias, process.pk, "the test that killed it"):
            pass
        self._read_row()

    def _send_order(self, answer_to: int) -> None:
        order = {
            **self._order,
            "answer_to": answer_to,
            "path": sys.path,
            "argv": sys.argv,
            "settings": getattr(settings, "BGTASKS", {}),
            # The names of the test databases.
            "databases": {alias: connections[alias].settings_dict["NAME"] for alias in connections},
        }
        assert self._victim.stdin is not None  # A pipe. It stays open, since that process ends when it is closed.
        with contextlib.suppress(BrokenPipeError):  # The process has ended already. It gives no answer.
            self._victim.stdin.write(f"{json.dumps(order, default=str)}\n".encode())
            self._victim.stdin.flush()

    def _take_answer(self, line: str) -> None:
        if not line:
            code = self._victim.poll()
            fault = f"has not answered for {LONGEST_START} s" if code is None else f"ended with code {code}"
            raise RuntimeError(f"The process for the task {fault}. Its output says more.")
        answer = json.loads(line)
        if "error" in answer:
            kind = {"TypeError": TypeError, "ValueError": ValueError}.get(answer["error"])
            raise kind(answer["message"]) if kind else RuntimeError(f"{answer['error']}: {answer['message']}")
        self._process, self._id = UUID(answer["process"]), UUID(answer["id"])
        self._read_row()

    def _read_row(self) -> None:
        self.row = BackgroundTask.objects.using(self._alias).get(pk=self._id)

    def _kill(self) -> None:
        self._victim.kill()
        self._victim.wait()
        assert self._victim.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._victim.stdin.close()

    async def __aenter__(self) -> killed:
        return await sync_to_async(self.__enter__)()

    async def __aexit__(self, *of_block: object) -> None:
        await sync_to_async(self.__exit__)(*of_block)
