"""
What the runtime's statements cost on a large table, with statistics of that table and with those of an empty one.

    .venv/bin/python -m benchmarks.tables [--database postgresql] [--finished NUMBER …]

The table holds finished rows of a month, 100 tasks that run and some thousand that wait. First the database has only
the statistics that it took while the table was empty; then it takes them anew. A figure is the median of the repeats,
for 100 rows or, where a statement is a look, for one look. docs/performance.md quotes it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import django
import rich.table
from django.apps import apps
from rich.console import Console

if TYPE_CHECKING:
    from tests.tables import Table  # It needs the settings to be imported.

KINDS = ("sqlite", "postgresql", "mariadb")
LIVE = 100
REPEATS = 15


def main() -> None:
    parser = argparse.ArgumentParser(description="What the runtime's statements cost on a large table.")
    parser.add_argument("--database", choices=KINDS, default="sqlite", help="By default SQLite.")
    parser.add_argument(
        "--finished", type=int, nargs="+", default=[100_000], help="Numbers of finished rows. By default 100000."
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        # All of it is read when the modules are imported.
        os.environ |= {"TESTS_DB": options.database, "TESTS_DB_DIR": folder}
        os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
        from tests import databases

        if fault := databases.find_fault():
            sys.exit(fault)
        try:
            os.environ["TESTS_DB_NAME"] = databases.make_database(Path(folder))
            django.setup()
            report(options.finished)
        finally:
            apps.get_app_config("bgtasks").shut_down()
            databases.drop_databases_of_run()


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
    """Return the milliseconds of each statement: with the statistics of the empty table, and with new ones."""
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
