"""
bgtasks against its peers, in alternating repeats of one run.

    python -m benchmarks.peers [--quick] [--repeats NUMBER] [--only SYSTEM …] [--format json]

Needs the packages of `benchmarks/requirements.txt`, and PostgreSQL and Redis on this machine. A system that lacks one
is listed with the reason. Each system is measured with its default setting and with its best known one. One caller
makes all calls, one after the other; the time ends when the system's own record shows that all tasks have finished.
Before that, single calls with pauses are measured ("idle"): the cost of a call, and the time until the first line of
its task. The systems differ in the state that is stored when a call returns: see the first lines of their adapters.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.peers.protocol import ROOT, STARTS, Request

LONGEST = 150.0  # Seconds until a system that does not answer is killed.
CALLS = ("call_microseconds", "idle_call_microseconds", "idle_start_microseconds")
BODIES = {"no-ops": 0.0, "50 ms": 0.05}
PACKAGES = (
    "Django", "aiojobs", "django-tasks-db", "django-tasks-local-db", "huey", "taskiq", "taskiq-redis", "celery",
    "redis", "procrastinate", "psycopg",
)  # fmt: skip


@dataclass(frozen=True)
class System:
    name: str
    module: str
    setting: str
    no_ops: int  # Tasks at most, so that a repeat of a slow system takes some 10 s.
    sleeps: int
    database: str = ""
    records: str = "each state"  # The trace of a finished task.

    @property
    def label(self) -> str:
        return f"{self.name}, {self.setting}"


SYSTEMS = (
    System("create_task", "create_task", "default", 10_000, 10_000, records="nothing"),
    System("aiojobs", "aiojobs_scheduler", "default", 10_000, 10_000, records="nothing"),
    System("aiojobs", "aiojobs_scheduler", "no limit", 10_000, 10_000, records="nothing"),
    System("bgtasks, SQLite", "bgtasks_rows", "default", 10_000, 5_000, "sqlite"),
    System("bgtasks, SQLite", "bgtasks_rows", "MAX_RUNNING raised", 10_000, 10_000, "sqlite"),
    System("bgtasks, PostgreSQL", "bgtasks_rows", "default", 10_000, 5_000, "postgresql"),
    System("bgtasks, PostgreSQL", "bgtasks_rows", "MAX_RUNNING raised", 10_000, 10_000, "postgresql"),
    System("huey, SQLite", "huey_queue", "default", 5_000, 100, "sqlite", records="a result"),
    System("huey, SQLite", "huey_queue", "8 threads", 5_000, 1_000, "sqlite", records="a result"),
    System("huey, Redis", "huey_queue", "default", 10_000, 100, "redis", records="a result"),
    System("huey, Redis", "huey_queue", "50 threads", 10_000, 5_000, "redis", records="a result"),
    System("taskiq, Redis", "taskiq_queue", "default", 10_000, 10_000, records="a result"),
    System("taskiq, Redis", "taskiq_queue", "1 process, 100 tasks", 10_000, 10_000, records="a result"),
    System("Celery, Redis", "celery_redis", "default", 5_000, 200, records="a result"),
    System("Celery, Redis", "celery_redis", "100 threads", 5_000, 5_000, records="a result"),
    System("Procrastinate, PostgreSQL", "procrastinate_postgresql", "default", 2_000, 100),
    System("Procrastinate, PostgreSQL", "procrastinate_postgresql", "100 at once", 2_000, 2_000),
    System("django-tasks-db, SQLite", "django_tasks", "default", 2_000, 100),
    System("django-tasks-db, SQLite", "django_tasks", "poll 0.01 s", 2_000, 100),
    System("django-tasks-local-db, SQLite", "django_tasks", "default", 100, 100, "local"),
    System("django-tasks-local-db, SQLite", "django_tasks", "50 threads, poll 0.01 s", 1_000, 1_000, "local"),
)
BARE = SYSTEMS[0]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description="Measure bgtasks beside its peers.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the tasks: to see that it works")
    parser.add_argument("--repeats", type=int, help="alternating repeats; by default 3, quick 1")
    parser.add_argument("--only", nargs="+", metavar="SYSTEM", help="systems whose names begin so")
    parser.add_argument("--format", choices=["table", "json"], default="table")
    options = parser.parse_args()
    repeats = options.repeats or (1 if options.quick else 3)
    if repeats < 1:
        parser.error("--repeats is at least 1")
    chosen = [one for one in SYSTEMS if one is BARE or not options.only or one.name.startswith(tuple(options.only))]
    rows = []
    for body, seconds in BODIES.items():
        answers: dict[str, list[dict[str, Any]]] = {one.label: [] for one in chosen}
        for repeat in range(repeats):
            for one in chosen:
                print(f"{body}, {repeat + 1} of {repeats}: {one.label}", file=sys.stderr)
                answers[one.label].append(ask(one, make_request(one, seconds, options.quick)))
        rows += [summarize(one, body, seconds, options.quick, answers) for one in chosen]
    result = {"machine": describe(), "repeats": repeats, "quick": options.quick, "rows": rows}
    if options.format == "json":
        print(json.dumps(result, indent=2, ensure_ascii=False))
    else:
        print_table(result)


def make_request(one: System, seconds: float, is_quick: bool) -> Request:
    tasks = one.sleeps if seconds else one.no_ops
    return Request(max(tasks // 10, 10) if is_quick else tasks, seconds, one.setting, one.database)


def ask(one: System, request: Request) -> dict[str, Any]:
    """Run the adapter of a system; return its answer, or {"fault": reason} if there is none."""
    command = [sys.executable, "-m", f"benchmarks.peers.{one.module}"]
    try:
        with tempfile.NamedTemporaryFile() as starts:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env={**os.environ, STARTS: starts.name},
                input=json.dumps(asdict(request)),
                capture_output=True,
                text=True,
                timeout=LONGEST,
            )
        return dict(json.loads(done.stdout))
    except subprocess.TimeoutExpired:
        return {"fault": f"killed after {LONGEST:.0f} s"}
    except ValueError:  # The output is not JSON.
        return {"fault": (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1][:200]}


def summarize(
    one: System, body: str, seconds: float, is_quick: bool, answers: dict[str, list[dict[str, Any]]]
) -> dict[str, Any]:
    found = answers[one.label]
    row: dict[str, Any] = {
        "measure": body,
        "system": one.name,
        "setting": one.setting,
        "records": one.records,
        "tasks": make_request(one, seconds, is_quick).tasks,
    }
    if faults := [each["fault"] for each in found if "fault" in each]:
        return {**row, "fault": faults[0]}
    row["per_second"] = statistics.median(each["per_second"] for each in found)
    for figure in CALLS:
        row[figure] = statistics.median(each[figure] for each in found)
    row["ratios"] = {
        other: statistics.median(
            own["per_second"] / each["per_second"] for own, each in zip(found, answers[other], strict=True)
        )
        for other in answers
        if (other == BARE.label or other.startswith("bgtasks")) and not any("fault" in each for each in answers[other])
    }
    return row


def describe() -> str:
    versions = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            versions.append(f"no {package}")
    return ", ".join(versions)


def write(number: float) -> str:
    return f"{number:,.0f}"


def print_table(result: dict[str, Any]) -> None:
    table = Table(title="bgtasks beside its peers", title_justify="left")
    for heading in ("measure", "system", "setting", "records"):
        table.add_column(heading)
    for heading in ("tasks", "per second", "one call", "idle", "first line", "× create_task", "× bgtasks, SQLite"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in result["rows"]:
        ratios = row.get("ratios", {})
        figures = (
            [f"{row['per_second']:,.0f}", *(f"{row[figure]:,.0f} µs" for figure in CALLS)]
            if ratios
            else ["–", row["fault"], "–", "–"]
        )
        beside = [ratios.get(BARE.label), ratios.get("bgtasks, SQLite, default")]
        table.add_row(
            row["measure"], row["system"], row["setting"], row["records"], write(row["tasks"]), *figures,
            *("" if ratio is None else f"{ratio:.4f}" for ratio in beside),
        )  # fmt: skip
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table)
    console.print(result["machine"], highlight=False)


if __name__ == "__main__":
    main()
