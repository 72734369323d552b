"""`manage.py top_tasks`: the running tasks, the processes and the last hour, live on a terminal."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import threading
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from django.db import DatabaseError, InterfaceError, connections
from django.utils import timezone
from rich.live import Live

from ...conf import get_settings
from ...reports.activity import Activity, look
from ..activity_view import ActivityView
from ..base import TaskCommand, at_least_one, interval

INTERVAL = 2.0  # Seconds.
LIMIT = 20


class Command(TaskCommand):
    help = (
        "Show the running tasks against their usual durations, how many tasks wait, the processes, and the tasks that "
        "ended in the last hour. On a terminal the view is refreshed until Ctrl-C; elsewhere it is printed once. Exits "
        "with 0, or 2 on misuse."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--once", action="store_true", help="Print the view once, on a terminal too.")
        parser.add_argument(
            "--interval",
            type=interval,
            default=INTERVAL,
            metavar="SECONDS",
            help=f"Seconds between two refreshes; by default {INTERVAL:g}.",
        )
        parser.add_argument(
            "--limit",
            type=at_least_one,
            default=LIMIT,
            metavar="N",
            help=f"Show so many tasks, and so many functions, at most; by default {LIMIT}.",
        )
        parser.add_argument(
            "--format", choices=["table", "json"], default="table", help="By default a table. JSON is printed once."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        self._limit = options["limit"]
        activity = self._look()  # An error of the first look ends the command; later ones are shown.
        if options["format"] == "json":
            self.print_json(_as_document(activity))
        elif options["once"] or not self._is_on_terminal():
            self.out.print(ActivityView(activity))
        else:
            self._watch(activity, options["interval"])

    def _look(self) -> Activity:
        return look(self.alias, get_settings(), timezone.now(), self._limit)

    def _is_on_terminal(self) -> bool:
        """Return whether the cursor can be moved. `--force-color` does not make a pipe a terminal."""
        return self.out.file.isatty() and self.out.is_terminal and not self.out.is_dumb_terminal

    def _watch(self, activity: Activity, interval: float) -> None:
        trouble = ""
        live = Live(console=self.out, screen=True, auto_refresh=False)
        with contextlib.suppress(KeyboardInterrupt), _sigterm_as_ctrl_c(), live:
            while True:
                live.update(ActivityView(activity, height=self.out.height, trouble=trouble), refresh=True)
                time.sleep(interval)
                try:
                    activity, trouble = self._look(), ""
                except (DatabaseError, InterfaceError) as error:
                    trouble = f"The database cannot be used: {' '.join(str(error).split())}."
                    with contextlib.suppress(DatabaseError, InterfaceError):
                        connections[self.alias].close()


@contextlib.contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """Let SIGTERM end the view like Ctrl-C, so that the terminal and its cursor are restored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _as_document(activity: Activity) -> dict[str, Any]:
    """Return the document of `--format json`; docs/commands.md lists its keys."""
    document = dataclasses.asdict(activity)
    document["day"]["failed_part"] = activity.day.failed_part
    return document
