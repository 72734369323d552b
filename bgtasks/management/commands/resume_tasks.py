"""`manage.py resume_tasks`: resume paused functions and queues."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from ...models import Pause
from ...operations.pauses import resume
from ..base import FOUND, TaskCommand
from ..names import add_names


class Command(TaskCommand):
    help = (
        "Resume paused functions, or queues: all processes start their tasks again within POLL_INTERVAL. Exits with 0, "
        "1 if one of them was not paused, or 2 on misuse."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_names(parser, "+")

    def handle(self, *args: Any, **options: Any) -> None:
        kind = Pause.Kind.QUEUE if options["queue"] else Pause.Kind.FUNCTION
        names = list(dict.fromkeys(options["names"]))
        resumed = resume(self.alias, kind, names)
        if options["format"] == "json":
            self.print_json({"resumed": resumed, "not_paused": [name for name in names if name not in resumed]})
        else:
            for name in names:
                self.say(f"{kind.label} {name} {'goes on' if name in resumed else 'was not paused'}.")
        if len(resumed) < len(names):
            raise SystemExit(FOUND)
