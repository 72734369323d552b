"""The names of task functions and queues as arguments of commands."""

from __future__ import annotations

import difflib
from argparse import ArgumentParser
from collections.abc import Sequence

from ..conf import get_settings
from ..definition import MAX_NAME_LENGTH, declared
from ..models import Pause
from .base import misuse


def add_names(parser: ArgumentParser, count: str) -> None:
    parser.add_argument(
        "names", nargs=count, metavar="NAME", help="Names of task functions, as in the rows of their tasks."
    )
    parser.add_argument("--queue", action="store_true", help="The names are those of queues.")
    parser.add_argument("--format", choices=["table", "json"], default="table", help="By default a table.")


def check_names(kind: Pause.Kind, names: Sequence[str], is_forced: bool) -> None:
    """
    Refuse unknown names: after a slip the tasks that were to be paused would go on.

    Raises:
        CommandError: for a name that no function, or queue, has; with the nearest name that exists.
    """
    known = {task.options.queue for task in declared.values()} | set(get_settings().queues)
    if kind is Pause.Kind.FUNCTION:
        known = set(declared)
    for name in names:
        if len(name) > MAX_NAME_LENGTH:
            raise misuse(f"{name[:50]}… is longer than {MAX_NAME_LENGTH} characters.")
        if name not in known and not is_forced:
            near = difflib.get_close_matches(name, known, n=1)
            fix = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(sorted(known)) or 'none'}."
            raise misuse(f"No {kind.label.lower()} is called {name}. {fix} With --force it is paused all the same.")
