"""The command: runs rounds until there were enough kills. It exits with 0 if each promise held, with 1 otherwise."""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from .databases import KINDS, Database, Missing
from .figures import Figures
from .harness import KILLS_PER_ROUND, Harness, prepare

SHOWN = 20  # Problems of a round.
UNUSABLE = 2  # Exit code.


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description="Kill servers while they run tasks, in every way there is, and prove that no task gets lost.",
    )
    parser.add_argument("--database", choices=list(KINDS), default="sqlite", help="a private one (default: sqlite)")
    parser.add_argument("--kills", type=int, default=200, help="go on until so many servers were killed")
    parser.add_argument("--seed", type=int, help="of what is done when (default: one by chance, which is printed)")
    parser.add_argument("--processes", type=int, default=3, help="servers that live at a time (default: 3)")
    parser.add_argument("--format", choices=["table", "json"], default="table")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave all evidence in a new folder")
    options = parser.parse_args(arguments)
    if options.kills < 1 or options.processes < 1:
        parser.error("--kills and --processes are at least 1.")
    if options.seed is None:
        options.seed = random.randrange(1_000_000)
    return options


def run(options: argparse.Namespace, folder: Path, database: Database, err: Console) -> Figures:
    """Run rounds until there were enough kills, or until one has problems."""
    figures = Figures()
    prepare(folder, database)
    harness = Harness(folder, database, options.seed, options.processes, figures)
    began = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        Progress(*columns, console=err, disable=not err.is_terminal, transient=True) as progress,
        harness.started(),
    ):
        shown = progress.add_task(f"{options.database}: kills", total=options.kills)
        while figures.kills < options.kills and not figures.problems:
            problems = harness.run_round(min(KILLS_PER_ROUND, options.kills - figures.kills + 1))
            figures.seconds = time.monotonic() - began
            progress.update(shown, completed=min(figures.kills, options.kills))
            if not err.is_terminal:
                err.print(
                    f"round {harness.round}: {figures.kills} kills, {figures.tasks} tasks, {figures.seconds:.0f} s"
                )
            for problem in problems[:SHOWN]:
                err.print(
                    f"BROKEN in round {harness.round}, seed {options.seed}: {problem}", markup=False, soft_wrap=True
                )
            if len(problems) > SHOWN:
                err.print(f"… and {len(problems) - SHOWN} more")
    return figures


def make_table(values: dict[str, Any]) -> Table:
    table = Table(show_header=False)
    table.add_column()
    table.add_column()
    for name, value in values.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} ×{count}" for key, count in sorted(value.items())) or "none"
        table.add_row(name.replace("_", " "), str(value))
    return table


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    err, out = Console(stderr=True, highlight=False), Console(highlight=False)
    folder = options.keep or Path(tempfile.mkdtemp(prefix="chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        database = KINDS[options.database](folder)
        figures = run(options, folder.resolve(), database, err)
    except Missing as error:
        err.print(str(error))
        return UNUSABLE
    values = {"database": options.database, "seed": options.seed, "processes": options.processes, **figures.as_dict()}
    is_well = not figures.problems
    if is_well and not options.keep:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        values["evidence"] = str(folder)
    if options.format == "json":
        out.file.write(json.dumps(values, indent=2) + "\n")
    else:
        out.print(make_table(values))
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
