"""The base of the commands: the types of their options, their exit codes, and their output."""

from __future__ import annotations

import argparse
import json
import math
import sys
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, InterfaceError, router
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ..journal.statements import is_missing_table
from ..models import BackgroundTask
from ..models.moments import MomentEncoder

FOUND = 1  # Exit code: something was found, or is left.
MISUSE = 2  # Exit code: wrong options, or a database that cannot be used. argparse uses the same.
MIN_INTERVAL, MAX_INTERVAL = 0.1, 3600  # Seconds.
WIDTH = 1000  # Columns of output that is no terminal: no line is folded.


def seconds(text: str) -> float:
    """Parse a number of seconds, 0 or more."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, 0 or more")
    return value


def interval(text: str) -> float:
    """Parse the seconds between two refreshes."""
    value = seconds(text)
    if not MIN_INTERVAL <= value <= MAX_INTERVAL:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from {MIN_INTERVAL} to {MAX_INTERVAL:g}")
    return value


def at_least_one(text: str) -> int:
    """Parse a whole number, 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 1 or more")
    return int(text)


class TaskCommand(BaseCommand):
    """A command whose output is formatted on a terminal, plain lines elsewhere, or one JSON document."""

    requires_system_checks = []  # During a deploy or an outage the answer matters, not the project's warnings.

    def execute(self, *args: Any, **options: Any) -> str | None:
        self.alias = router.db_for_write(BackgroundTask)
        self.out = self._make_console(options.get("stdout") or sys.stdout, options)
        self.progress_out = self._make_console(options.get("stderr") or sys.stderr, options)
        try:
            return super().execute(*args, **options)
        except (DatabaseError, InterfaceError, ImproperlyConfigured) as error:
            fix = " Run `manage.py migrate`." if is_missing_table(error) else ""
            raise CommandError(f"The database cannot be used: {str(error).strip()}.{fix}", returncode=MISUSE) from error

    @staticmethod
    def _make_console(file: Any, options: dict[str, Any]) -> Console:
        console = Console(
            file=file,
            no_color=bool(options.get("no_color")) or None,
            force_terminal=True if options.get("force_color") else None,
            highlight=False,
        )
        if not console.is_terminal:
            console.width = WIDTH
        return console

    def say(self, text: str) -> None:
        self.out.print(text, markup=False, soft_wrap=True)

    def say_progress(self, text: str) -> None:
        self.progress_out.print(text, markup=False, soft_wrap=True)

    def print_json(self, document: dict[str, Any]) -> None:
        self.out.file.write(json.dumps(document, cls=MomentEncoder, indent=2, ensure_ascii=False) + "\n")

    def make_progress(self) -> Progress:
        """Return a progress bar, which is shown on a terminal only."""
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(),
            console=self.progress_out,
            transient=True,
            disable=not self.progress_out.is_terminal,
        )


def misuse(message: str) -> CommandError:
    return CommandError(message, returncode=MISUSE)
