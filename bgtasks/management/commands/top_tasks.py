"""`manage.py top_tasks`: what goes on, live, on a terminal."""

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
        "Show what goes on: what runs and against how long it usually takes, what waits, who is alive, what ended in "
        "the last hour. On a terminal it stays and refreshes until Ctrl-C; elsewhere it prints one picture. Exits "
        "with 0, or 2 on misuse."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--once", action="store_true", help="Print one picture and end, on a terminal too.")
        parser.add_argument(
            "--interval",
            type=interval,
            default=INTERVAL,
            metavar="SECONDS",
            help=f"Between two looks; by default {INTERVAL:g}.",
        )
        parser.add_argument(
            "--limit",
            type=at_least_one,
            default=LIMIT,
            metavar="N",
            help=f"Tasks shown, and functions, at most; by default {LIMIT}.",
        )
        parser.add_argument(
            "--format", choices=["table", "json"], default="table", help="By default a table. JSON is one picture."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        self._limit = options["limit"]
        activity = self._look()  # What is wrong from the beginning ends it.
        if options["format"] == "json":
            self.print_json(_as_document(activity))
        elif options["once"] or not self._is_on_terminal():
            self.out.print(ActivityView(activity))
        else:
            self._watch(activity, options["interval"])

    def _look(self) -> Activity:
        return look(self.alias, get_settings(), timezone.now(), self._limit)

    def _is_on_terminal(self) -> bool:
        """Tell whether the cursor can be moved. `--force-color` makes no terminal of a pipe."""
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
    """Have SIGTERM too leave the terminal as it was, with its cursor."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _as_document(activity: Activity) -> dict[str, Any]:
    """Return what `--format json` prints; docs/commands.md lists it."""
    document = dataclasses.asdict(activity)
    document["day"]["failed_part"] = activity.day.failed_part
    return document
