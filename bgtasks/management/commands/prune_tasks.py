"""`manage.py prune_tasks`: delete finished rows that are older than the retention."""

from __future__ import annotations

from argparse import ArgumentParser
from collections import Counter
from typing import Any

from django.utils import timezone

from ...conf import get_settings
from ...maintenance.pruner import Retention
from ..base import FOUND, TaskCommand


class Command(TaskCommand):
    help = (
        "Delete finished tasks that are older than RETENTION or RETENTION_FAILED, in small batches, and the processes "
        "and drains of that time. Servers do so by themselves, every hour. Exits with 0, or 2 on misuse."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Only count the rows that would be deleted.")
        parser.add_argument("--format", choices=["text", "json"], default="text", help="By default text.")

    def handle(self, *args: Any, **options: Any) -> None:
        retention = Retention(self.alias, get_settings(), timezone.now())
        is_dry = options["dry_run"]
        pruned: Counter[str] = Counter()
        is_interrupted = False
        if is_dry:
            pruned = retention.count()
        else:
            try:
                self._prune(retention, pruned)
            except KeyboardInterrupt:
                is_interrupted = True
        if options["format"] == "json":
            self.print_json({"dry_run": is_dry, "count": pruned.total(), "pruned": pruned})
        else:
            rows = ", ".join(f"{number} {kind}" for kind, number in sorted(pruned.items()))
            done = "would be pruned" if is_dry else "pruned"
            self.say(f"{pruned.total()} rows {done}{f': {rows}' if rows else ''}.")
        if is_interrupted:
            self.say_progress("Interrupted: the remaining rows can be pruned later.")
            raise SystemExit(FOUND)

    def _prune(self, retention: Retention, pruned: Counter[str]) -> None:
        with self.make_progress() as progress:
            # Counting reads every row that is due, so it is done only where the bar is shown.
            bar = progress.add_task("Pruning", total=None if progress.disable else retention.count().total())
            for batch in retention.prune():
                pruned.update(batch)
                progress.update(bar, completed=pruned.total())
