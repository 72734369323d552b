"""
The cost of the runtime's statements on a large table, with its statistics and with those of the empty table.

    .venv/bin/python -m benchmarks.tables [--database postgresql] [--finished NUMBER …]

The table has the finished rows of a month, 100 running tasks and some thousand waiting ones. At first the database has
only the statistics of the empty table; then they are updated. A figure is the median of the repeats, for 100 rows or,
where a statement is a look, for one look. docs/performance.md quotes the table.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import TYPE_CHECKING

import rich.table
from rich.console import Console

from benchmarks.harness import KINDS, use_database

if TYPE_CHECKING:
    from tests.tables import Table  # Needs the settings.

LIVE = 100
REPEATS = 15


def main() -> None:
    parser = argparse.ArgumentParser(description="The cost of the runtime's statements on a large table.")
    parser.add_argument("--database", choices=KINDS, default="sqlite", help="By default SQLite.")
    parser.add_argument(
        "--finished", type=int, nargs="+", default=[100_000], help="Numbers of finished rows. By default 100000."
    )
    options = parser.parse_args()
    with use_database(options.database):
        report(options.finished)


def report(sizes: list[int]) -> None:
    columns: dict[str, dict[str, float]] = {}
    for size in sizes:
        empty, full = measure(size)
        columns |= {f"{size:,} rows, analysed empty": empty, f"{size:,} rows, analysed full": full}
    printed = rich.table.Table("milliseconds", *columns)
    for name in next(iter(columns.values())):
        printed.add_row(name, *(f"{found[name]:.2f}" for found in columns.values()))
    Console(width=160).print(printed)


def measure(finished: int) -> tuple[dict[str, float], dict[str, float]]:
    """Return the milliseconds of each statement, with the statistics of the empty table and with updated ones."""
    from bgtasks.models import BackgroundTask
    from tests import tables

    BackgroundTask.objects.all().delete()
    with tables.frozen_statistics():
        tables.analyze()
        table = tables.Table(LIVE)
        table.fill(finished, waiting=2 * REPEATS * LIVE)
        misled = ask_all(table)
        tables.analyze()
        return misled, ask_all(table)


def ask_all(table: Table) -> dict[str, float]:
    seconds: dict[str, list[float]] = {}
    for _ in range(REPEATS):
        for name, ask in table.questions.items():
            began = time.perf_counter()
            ask()
            seconds.setdefault(name, []).append(time.perf_counter() - began)
        table.finish_claimed()
    return {name: statistics.median(each) * 1000 for name, each in seconds.items()}


if __name__ == "__main__":
    main()
