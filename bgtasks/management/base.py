"""What the commands share: their options, their exit codes and where they print."""

from __future__ import annotations

import argparse
import json
import math
import sys
from datetime import datetime
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, InterfaceError, router
from django.utils import timezone
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ..journal.statements import is_missing_table
from ..models import BackgroundTask
from ..models.moments import MomentEncoder

FOUND = 1  # Exit code: something was found, or left.
MISUSE = 2  # Exit code: wrong options, or a database that cannot be used. argparse uses the same.
MIN_INTERVAL, MAX_INTERVAL = 0.1, 3600  # Seconds.
WIDTH = 1000  # Columns where there is no terminal: enough that no line is folded.


def seconds(text: str) -> float:
    """Parse a command's option in seconds."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, 0 or more")
    return value


def interval(text: str) -> float:
    """Parse the seconds between two looks."""
    value = seconds(text)
    if not MIN_INTERVAL <= value <= MAX_INTERVAL:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from {MIN_INTERVAL} to {MAX_INTERVAL:g}")
    return value


def at_least_one(text: str) -> int:
    """Parse a command's option that counts something."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 1 or more")
    return int(text)


class TaskCommand(BaseCommand):
    """A command that prints for people on a terminal, plain lines elsewhere, or one JSON document."""

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

    def tell_progress(self, text: str) -> None:
        self.progress_out.print(text, markup=False, soft_wrap=True)

    def print_json(self, document: dict[str, Any]) -> None:
        self.out.file.write(json.dumps(document, cls=MomentEncoder, indent=2, ensure_ascii=False) + "\n")

    def make_progress(self) -> Progress:
        """Return a progress bar, which shows nothing unless on a terminal."""
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(),
            console=self.progress_out,
            transient=True,
            disable=not self.progress_out.is_terminal,
        )


def visible(value: object) -> str:
    r"""
    Return a text of one line in which nothing moves the cursor, colours, or hides: what else there is, as escapes.

    >>> visible("na\u00efve \x1b[2J\u202e\n")
    'naïve \\x1b[2J\\u202e\\n'
    """
    text = str(value)
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def misuse(message: str) -> CommandError:
    return CommandError(message, returncode=MISUSE)


def show_length(value: float) -> str:
    """
    Return a length in seconds as people say it.

    >>> show_length(0.25), show_length(75), show_length(3 * 3600 + 60), show_length(2 * 86400)
    ('0.2 s', '1 min 15 s', '3 h 1 min', '2 d 0 h')
    """
    if value < 60:
        return f"{value:.1f} s"
    whole = int(value)
    for unit, size, lesser, lesser_size in (("d", 86400, "h", 3600), ("h", 3600, "min", 60)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // lesser_size} {lesser}"
    return f"{whole // 60} min {whole % 60} s"


def age(moment: datetime | None) -> float:
    """Return the seconds since a moment; 0 for one that is not known."""
    return max((timezone.now() - moment).total_seconds(), 0.0) if moment is not None else 0.0
