"""`manage.py audit_tasks`: fired tasks equal the rows in the table plus the deleted ones, and each row is in order."""

from __future__ import annotations

import dataclasses
import time
from argparse import ArgumentParser
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone
from rich.table import Table
from rich.text import Text

from ...conf import get_settings
from ...reports.audit import Audit, Auditor, Problem
from ...reports.crash_suspects import Suspect, find_suspects
from ..base import FOUND, TaskCommand, seconds
from ..formats import format_count, format_moment, visible

BETWEEN = 1.0  # Seconds between two audits with --wait.
LONGEST_AGE = 10 * 365 * 86_400.0  # Seconds: longer ago there was no bgtasks.


class Command(TaskCommand):
    help = (
        "Check the books: each fired task is in the table or was pruned, each live task waits for any process or runs "
        "in a living one, each row agrees with its history. Reads every row, unless --since is given. Exits with 0 "
        "when everything holds, 1 when something does not, 2 on misuse."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--wait",
            type=seconds,
            default=0.0,
            metavar="SECONDS",
            help="Repeat the audit until everything holds and no task waits for its rescue, for at most this long.",
        )
        which = parser.add_mutually_exclusive_group()
        which.add_argument(
            "--since",
            type=seconds,
            metavar="SECONDS",
            help="Check only the tasks fired within the last SECONDS, and the owners of all live tasks: fast with any "
            "number of rows. Does not find missing rows, since that needs all rows.",
        )
        which.add_argument(
            "--deaths",
            action="store_true",
            help="List instead the tasks that ran in processes that died, the most suspect first. Exits with 0.",
        )
        parser.add_argument("--format", choices=["table", "json"], default="table", help="By default a table.")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["deaths"]:
            self._print_suspects(options["format"])
            return
        age = options["since"]
        since = None if age is None else timezone.now() - timedelta(seconds=min(age, LONGEST_AGE))
        audit = self._audit(since, options["wait"])
        if options["format"] == "json":
            self.print_json(_as_json(audit))
        else:
            self.out.print(_make_table(audit))
            for problem in audit.problems:
                self.say(_describe(problem))
            if not audit.problems:
                self.say("Everything holds." if since is None else "Everything that was checked holds.")
        if audit.problems:
            raise SystemExit(FOUND)

    def _print_suspects(self, format: str) -> None:
        deaths, suspects = find_suspects(self.alias)
        if format == "json":
            rows = [{**dataclasses.asdict(one), "surprise": one.surprise} for one in suspects]
            self.print_json({"deaths": deaths, "suspects": rows})
        elif not suspects:
            self.say("No process has died with tasks in it.")
        else:
            self.out.print(_make_suspects_table(deaths, suspects))

    def _audit(self, since: datetime | None, patience: float) -> Audit:
        auditor = Auditor(self.alias, get_settings())
        end = time.monotonic() + patience
        while True:
            audit = auditor.audit(since)
            if not (audit.problems or audit.being_rescued) or time.monotonic() >= end:
                return audit
            time.sleep(min(BETWEEN, max(end - time.monotonic(), 0)))


def _as_json(audit: Audit) -> dict[str, Any]:
    found = {**dataclasses.asdict(audit), "unaccounted": audit.unaccounted, "ok": not audit.problems}
    if audit.since is not None:
        found |= dict.fromkeys(("fired", "gone", "unaccounted"))  # Not counted.
    return found


def _make_table(audit: Audit) -> Table:
    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right")
    if audit.since is None:
        table.add_row("Fired", f"{audit.fired:,}")
        table.add_row("In the table", f"{audit.rows:,}")
        table.add_row("Gone (pruned, deleted)", f"{audit.gone:,}")
        table.add_row("Unaccounted", f"{audit.unaccounted:,}", end_section=True)
    else:
        heading = f"Fired since {format_moment(audit.since)}"
        table.add_row(heading, f"{sum(audit.by_status.values()):,}", end_section=True)
    for status, count in audit.by_status.items():
        table.add_row(status, f"{count:,}")
    if audit.waiting_to_be_counted:
        table.add_row("of these not claimed, and not counted, yet", f"{audit.waiting_to_be_counted:,}")
    if audit.being_rescued:
        table.add_row("of these about to be rescued", f"{audit.being_rescued:,}")
    return table


def _make_suspects_table(deaths: int, suspects: list[Suspect]) -> Table:
    title = f"{format_count(deaths, 'process', 'processes')} died with tasks in them"
    table = Table(title=title, title_justify="left")
    table.add_column("Task", overflow="fold")
    for heading in ("In deaths", "Running then", "Expected", "Runs", "Surprise"):
        table.add_column(heading, justify="right")
    for one in suspects:
        figures = (f"{one.deaths:,}", f"{one.running:,}", f"{one.expected:.1f}", f"{one.runs:,}", f"{one.surprise:.1f}")
        table.add_row(Text(visible(one.name)), *figures)
    return table


def _describe(problem: Problem) -> str:
    lines = [f"{format_count(problem.count, 'task', 'tasks')} {problem.what}."]
    lines += [f"  {visible(task)}" for task in problem.tasks]
    if len(problem.tasks) < problem.count and problem.tasks:
        lines.append(f"  and {problem.count - len(problem.tasks)} more")
    return "\n".join(lines)
