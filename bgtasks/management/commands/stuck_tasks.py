"""`manage.py stuck_tasks`: the tasks that make no progress, with the reason and the place where they await."""

from __future__ import annotations

import dataclasses
import time
from argparse import ArgumentParser
from collections import Counter
from typing import Any

from django.utils import timezone
from rich.table import Table
from rich.text import Text

from ...conf import get_settings
from ...operations.announce_ended import announcing
from ...operations.rescue_by_hand import longest_watch, rescue_by_hand, watch_for_deaths
from ...reports.activity import awaits_for
from ...reports.stuck import Finder, StuckTask
from ...transitions import cancel
from ..base import FOUND, TaskCommand, seconds
from ..formats import format_length, visible


class Command(TaskCommand):
    help = (
        "List tasks whose process stopped beating, that run past their stuck_after, or that wait for longer than "
        "STUCK_WAITING_AFTER. Exits with 0 when there are none, 1 when there are any, 2 on misuse."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--older-than",
            type=seconds,
            metavar="SECONDS",
            help="List all tasks that run or wait for longer than this.",
        )
        parser.add_argument(
            "--apply",
            action="store_true",
            help="Watch the processes for DEAD_AFTER, and give the tasks of dead processes their verdicts. Servers do "
            "so by themselves; use it when no server is left.",
        )
        parser.add_argument(
            "--cancel",
            action="store_true",
            help="Cancel the tasks that run for too long; their processes do so within a second.",
        )
        parser.add_argument("--format", choices=["table", "json"], default="table", help="By default a table.")

    def handle(self, *args: Any, **options: Any) -> None:
        done: dict[str, Any] = {}
        if options["apply"]:
            done["verdicts"] = self._apply()
        found = Finder(self.alias, get_settings(), timezone.now(), options["older_than"]).find()
        if options["cancel"]:
            done["cancelled"] = self._cancel(found)
        if options["format"] == "json":
            self.print_json({"count": len(found), "tasks": [dataclasses.asdict(task) for task in found], **done})
        else:
            self._show(found, done)
        if found:
            raise SystemExit(FOUND)

    def _show(self, found: list[StuckTask], done: dict[str, Any]) -> None:
        if "verdicts" in done:
            verdicts = ", ".join(f"{status} ×{count}" for status, count in sorted(done["verdicts"].items()))
            self.say(f"Verdicts given: {verdicts or 'none'}.")
        if "cancelled" in done:
            self.say(f"Asked to stop: {len(done['cancelled'])}.")
        if found:
            self.out.print(_make_table(found))
        else:
            self.say("Nothing is stuck.")

    def _apply(self) -> Counter[str]:
        """Watch until each process has beaten or is dead; return how many verdicts were given, by status."""
        settings = get_settings()
        began = time.monotonic()
        verdicts: Counter[str] = Counter()
        with self.make_progress() as progress:
            bar = progress.add_task("Watching for beats (s)", total=round(longest_watch(settings)))
            for ended in watch_for_deaths(self.alias, settings):
                for process in ended:
                    given = rescue_by_hand(self.alias, process, "manage.py stuck_tasks --apply")
                    verdicts.update(verdict.status.value for verdict in given)
                progress.update(bar, completed=round(time.monotonic() - began))
        return verdicts

    def _cancel(self, found: list[StuckTask]) -> list[str]:
        """Cancel the tasks that run for too long; return their ids."""
        too_long = [task for task in found if task.kind == "running"]
        why = "cancelled: it ran for too long"
        with announcing(self.alias) as ended:  # A task that waits for another attempt by now ends at once.
            for task in too_long:
                cancel(self.alias, task.id, "manage.py stuck_tasks --cancel", why, ended=ended)
        return [str(task.id) for task in too_long]


def _make_table(found: list[StuckTask]) -> Table:
    table = Table(title=f"{len(found)} stuck", title_justify="left")
    for heading in ("Task", "Status", "Why", "For", "Process", "Awaits at"):
        table.add_column(heading, overflow="fold")
    for task in found:
        table.add_row(
            Text(f"{visible(task.name)}\n{task.id}"),
            task.status,
            Text(task.reason),
            format_length(task.age),
            Text(f"{visible(task.process_name)}\n{task.process or ''}".strip()),
            Text(_describe_place(task)),
        )
    return table


def _describe_place(task: StuckTask) -> str:
    lines = []
    if task.loop_blocked is not None:
        lines.append(f"The event loop has not answered for {format_length(task.loop_blocked)}.")
    if place := task.await_place:
        lines.append(f"{visible(place.get('file'))}:{visible(place.get('line'))}")
        length = awaits_for(place, timezone.now())
        for_length = f" for {format_length(length)}" if length is not None else ""
        lines.append(f"in {visible(place.get('function'))}{for_length}")
    return "\n".join(lines)
