"""The common part of the benchmarks: a new database, the runtime as under a server, a table of medians and ratios."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import asgiref
import django
from django.apps import apps
from django.test.utils import override_settings
from rich.console import Console
from rich.table import Table

from bgtasks.lifespan import Lifespan

KINDS = ("sqlite", "postgresql", "mariadb")
ROOT = Path(__file__).parent.parent
LONGEST_WAIT = 300.0  # Seconds after which a repeat that does not end is given up.
POLL_PAUSE = 0.01  # Seconds between two looks at the rows, each of which takes far less than a millisecond.

Options = argparse.Namespace
Measure = Callable[["Report", Options], Coroutine[Any, Any, None]]


# Results.


@dataclass
class Row:
    """A line of the result, with a figure per repeat."""

    measure: str
    way: str
    unit: str
    medians: list[float] = field(default_factory=list)
    p99s: list[float] = field(default_factory=list)
    ratio: float | None = None  # To the first way of the measure: the median of the ratios of the repeats.

    def add(self, values: list[float]) -> None:
        self.medians.append(statistics.median(values))
        if len(values) > 1:
            self.p99s.append(p99(values))

    def as_dict(self) -> dict[str, Any]:
        return {
            "measure": self.measure,
            "way": self.way,
            "unit": self.unit,
            "median": statistics.median(self.medians),
            "least": min(self.medians),
            "most": max(self.medians),
            "p99": statistics.median(self.p99s) if self.p99s else None,
            "ratio": self.ratio,
        }


class Report:
    """The rows of a run, in the order of their first figures. The first way of a measure is the base of its ratios."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], Row] = {}

    def add(self, measure: str, way: str, unit: str, values: list[float]) -> None:
        self.rows.setdefault((measure, way), Row(measure, way, unit)).add(values)

    def as_list(self) -> list[dict[str, Any]]:
        """Return the rows, grouped by measure."""
        first: dict[str, Row] = {}
        for row in self.rows.values():
            bare = first.setdefault(row.measure, row)
            if all(bare.medians):
                row.ratio = statistics.median(own / one for own, one in zip(row.medians, bare.medians, strict=True))
        order = list(first)
        return [row.as_dict() for row in sorted(self.rows.values(), key=lambda row: order.index(row.measure))]


def p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[98]


# The runtime as under a server.


@contextlib.asynccontextmanager
async def serve(**options: object) -> AsyncIterator[None]:
    """Start the runtime on this loop, with these settings of BGTASKS, and drain it at the end."""
    incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    outgoing: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def send(message: Any) -> None:
        await outgoing.put(message)

    async def ask(message: str) -> None:
        await incoming.put({"type": message})
        answer = await outgoing.get()
        if answer["type"] != f"{message}.complete":
            raise RuntimeError(f"The runtime does not start: {answer}")

    with override_settings(BGTASKS=options):
        conversation = asyncio.ensure_future(Lifespan()({"type": "lifespan"}, incoming.get, send))
        await ask("lifespan.startup")
        try:
            yield
        finally:
            await ask("lifespan.shutdown")
            await conversation


strong_references: set[asyncio.Task[Any]] = set()


def create_bare(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Create a task as careful code does without bgtasks: with a reference until the task is done."""
    task = asyncio.create_task(coroutine)
    strong_references.add(task)
    task.add_done_callback(strong_references.discard)


async def wait_for(is_done: Callable[[], bool], pause: float = 0.001) -> None:
    async with asyncio.timeout(LONGEST_WAIT):
        while not is_done():
            await asyncio.sleep(pause)


class Rows:
    """The table, seen from outside the runtime."""

    def __init__(self) -> None:
        from tests import databases  # Reads the environment.

        self._connection = databases.connect(os.environ["BENCHMARKS_DB"])

    def ask(self, statement: str) -> int:
        with closing(self._connection.cursor()) as cursor:
            cursor.execute(statement)
            return int(next(iter(dict(cursor.fetchone()).values())))

    def count(self, condition: str = "1 = 1") -> int:
        return self.ask(f"SELECT count(*) AS number FROM bgtasks_backgroundtask WHERE {condition}")

    def is_any_live(self) -> bool:
        """Read at most one live row, by the index of the live rows, which hardly disturbs the measure."""
        live = "SELECT 1 FROM bgtasks_backgroundtask WHERE status IN ('READY', 'RUNNING') LIMIT 1"
        return bool(self.ask(f"SELECT count(*) AS number FROM ({live}) AS live"))

    async def wait_until_finished(self, expected: int) -> None:
        """Wait until `expected` rows exist and none is live; counted first, since rows may come between both reads."""
        await wait_for(lambda: self.count() >= expected and not self.is_any_live(), POLL_PAUSE)
        if (successful := self.count("status = 'SUCCESSFUL'")) != expected:
            raise RuntimeError(f"{successful} of {expected} tasks are SUCCESSFUL.")

    def delete(self, table: str = "bgtasks_backgroundtask") -> None:
        with closing(self._connection.cursor()) as cursor:
            cursor.execute(f"DELETE FROM {table}")

    def close(self) -> None:
        self._connection.close()


@contextlib.contextmanager
def watch_rows() -> Iterator[Rows]:
    rows = Rows()
    try:
        yield rows
    finally:
        rows.close()


# Before and after.


def main(
    description: str | None,
    measure: Measure,
    *,
    repeats: int = 3,
    add_arguments: Callable[[argparse.ArgumentParser], None] | None = None,
) -> None:
    """Measure on a new database, which is dropped at the end, and print the result."""
    description = description or ""
    parser = argparse.ArgumentParser(description=description.strip().split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the load, or less: to see that it works")
    parser.add_argument("--repeats", type=int, default=repeats, help=f"alternating repeats (default {repeats})")
    parser.add_argument("--database", choices=KINDS, default="sqlite", help="by default SQLite")
    parser.add_argument("--format", choices=["table", "json"], default="table")
    if add_arguments is not None:
        add_arguments(parser)
    options = parser.parse_args()
    if options.repeats < 1:
        parser.error("--repeats is at least 1")
    began = time.monotonic()
    report = Report()
    with use_database(options.database):
        machine = describe_machine()
        asyncio.run(measure(report, options))
    result = {
        "title": description.strip().split("\n")[0].rstrip("."),
        "machine": machine,
        "repeats": options.repeats,
        "quick": options.quick,
        "seconds": time.monotonic() - began,
        "rows": report.as_list(),
    }
    if options.format == "json":
        print(json.dumps(result, indent=2, ensure_ascii=False))
    else:
        print_table(result)


@contextlib.contextmanager
def use_database(kind: str) -> Iterator[None]:
    """Set up Django on a new database, and drop it at the end. Child processes inherit its address."""
    with tempfile.TemporaryDirectory(prefix="bgtasks-benchmark-") as folder:
        # The imports below read these variables.
        os.environ |= {"TESTS_DB": kind, "TESTS_DB_DIR": folder, "DJANGO_SETTINGS_MODULE": "benchmarks.settings"}
        from tests import databases

        if fault := databases.find_fault():
            sys.exit(f"{kind} is absent: {fault}")
        try:
            os.environ["BENCHMARKS_DB"] = name = databases.make_database(Path(folder))
            if kind != "sqlite":
                os.environ["TESTS_DB_NAME"] = name
            django.setup()
            yield
        finally:
            if apps.ready:
                apps.get_app_config("bgtasks").shut_down()
            databases.drop_databases_of_run()


def run_child(module: str, *arguments: object, timeout: float = LONGEST_WAIT) -> dict[str, Any]:
    """Run a module of the benchmarks in a process of its own, on the same database; return the JSON that it prints."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]
    child = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, timeout=timeout, check=True)
    return dict(json.loads(child.stdout))


class Child:
    """
    A module of the benchmarks in a process of its own, on a database of its own.

    It reads requests from its standard input, a line each. It answers by `reply`, once when it is ready and once for
    each line.
    """

    def __init__(self, module: str, *arguments: object) -> None:
        self._command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]

    def __enter__(self) -> Child:
        ours = ("TESTS_DB_RUN", "TESTS_DB_NAME")  # The child makes a database of its own.
        environment = {name: value for name, value in os.environ.items() if name not in ours}
        pipe = subprocess.PIPE
        self._child = subprocess.Popen(
            self._command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, text=True, start_new_session=True
        )
        self._read()
        return self

    def __exit__(self, *error: object) -> None:
        self._child.communicate(timeout=60)  # The child ends with its input, and drops its database.

    def ask(self, request: str) -> dict[str, Any]:
        assert self._child.stdin is not None
        self._child.stdin.write(f"{request}\n")
        self._child.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._child.stdout is not None
        if not (line := self._child.stdout.readline()):
            raise RuntimeError(f"A process has ended: {' '.join(self._command)}")
        return dict(json.loads(line))


def reply(found: dict[str, Any]) -> None:
    """Answer a request, in the child."""
    print(json.dumps(found), flush=True)


def describe_machine() -> str:
    from django.db import connection  # Needs the settings.

    connection.ensure_connection()
    if connection.vendor == "sqlite":
        database = f"SQLite {'.'.join(map(str, connection.Database.sqlite_version_info))} (WAL, synchronous=NORMAL)"
    else:
        version = ".".join(map(str, connection.get_database_version()))
        database = f"{connection.display_name} {version}"
    connection.close()
    versions = {
        "Python": platform.python_version(),
        "Django": django.get_version(),
        "asgiref": asgiref.__version__,
        "bgtasks": _read_version(),
    }
    names = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}; {names}; {database}; asyncio's own loop"


def _read_version() -> str:
    try:
        return metadata.version("bgtasks")
    except metadata.PackageNotFoundError:
        return "not installed"


def print_table(result: dict[str, Any]) -> None:
    table = Table(title=result["title"], title_justify="left")
    table.add_column("measure")
    table.add_column("way")
    for heading in ("median", "least … most", "p99", "× the first"):
        table.add_column(heading, justify="right", no_wrap=True)
    last = ""
    for row in result["rows"]:
        if last and row["measure"] != last:
            table.add_section()
        unit = row["unit"]
        table.add_row(
            row["measure"] if row["measure"] != last else "",
            row["way"],
            write(row["median"], unit),
            f"{write(row['least'], unit)} … {write(row['most'], unit)}",
            write(row["p99"], unit) if row["p99"] is not None else "",
            f"{row['ratio']:.2f}" if row["ratio"] is not None else "",
        )
        last = row["measure"]
    console = Console(width=None if sys.stdout.isatty() else 150)
    console.print(table)
    console.print(result["machine"], highlight=False)
    console.print(
        f"{result['repeats']} repeats{', quick' if result['quick'] else ''}, {result['seconds']:.0f} s. A ratio is "
        "the figure beside the first of its measure; on another machine or day, compare ratios only.",
        highlight=False,
    )


def write(value: float, unit: str) -> str:
    """
    >>> write(1234.5, "µs"), write(1234.5, "tasks/s"), write(3, "rows")
    ('1.23 ms', '1,234 tasks/s', '3 rows')
    """
    if unit == "µs":
        return f"{value:.1f} µs" if value < 1000 else f"{value / 1000:.2f} ms"
    if unit == "s":
        return f"{value:.2f} s"
    return f"{value:,.0f} {unit}".rstrip()
