"""`manage.py pause_tasks`: pause functions and queues, on all processes."""

from __future__ import annotations

import getpass
from argparse import ArgumentParser
from typing import Any

from rich.table import Table
from rich.text import Text

from ...models import Pause
from ...operations.pauses import pause
from ..base import TaskCommand
from ..formats import format_age, visible
from ..names import add_names, check_names


class Command(TaskCommand):
    help = (
        "Pause functions, or queues: within POLL_INTERVAL no process starts a task of them any more. Running tasks go "
        "on. Without a name, list the pauses. Exits with 0, or 2 on misuse."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_names(parser, "*")
        parser.add_argument("--force", action="store_true", help="Accept a name that no function here has.")

    def handle(self, *args: Any, **options: Any) -> None:
        kind = Pause.Kind.QUEUE if options["queue"] else Pause.Kind.FUNCTION
        check_names(kind, options["names"], options["force"])
        paused = pause(self.alias, kind, options["names"], f"pause_tasks, {_user()}")
        rows = list(Pause.objects.using(self.alias).order_by("kind", "name"))
        if options["format"] == "json":
            fields = ("kind", "name", "paused_at", "paused_by")
            listed = [{field: getattr(row, field) for field in fields} for row in rows]
            self.print_json({"paused": paused, "pauses": listed})
            return
        for name in options["names"]:
            self.say(f"{kind.label} {name} {'is paused' if name in paused else 'was paused already'}.")
        if not options["names"]:
            self._list(rows)

    def _list(self, rows: list[Pause]) -> None:
        if not rows:
            self.say("Nothing is paused.")
            return
        table = Table("kind", "name", "for", "by")
        for row in rows:
            name, by = Text(visible(row.name)), Text(visible(row.paused_by))
            table.add_row(row.get_kind_display(), name, format_age(row.paused_at), by)
        self.out.print(table)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # In a container the user may be a number without a name.
        return "unknown user"
