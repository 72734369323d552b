"""
Run the benchmarks one after the other, and store their figures.

    python -m benchmarks [--database postgresql] [--quick] [--repeats NUMBER] [SUITE …]

Each suite is a module beside this one, and can be run alone with more options: `python -m benchmarks.fire --help`. If a
suite fails, the rest is run, and its name is printed at the end. The figures are stored as JSON in benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.harness import KINDS, ROOT, print_table
from benchmarks.peers import __main__ as peers

SUITES = (
    "fire",
    "throughput",
    "parts",
    "acknowledgements",
    "view",
    "lag",
    "memory",
    "growth",
    "pages",
    "drain",
    "peers",
)
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Run the benchmarks.")
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(SUITES)}; by default all")
    parser.add_argument("--database", choices=KINDS, action="append", help="by default SQLite; may be repeated")
    parser.add_argument("--quick", action="store_true", help="a tenth of the load, or less: to see that it works")
    parser.add_argument("--repeats", type=int, help="alternating repeats; each suite has its default")
    options = parser.parse_args()
    if unknown := set(options.suites) - set(SUITES):
        parser.error(f"There is no suite {', '.join(sorted(unknown))}. There are: {', '.join(SUITES)}.")
    if options.repeats is not None and options.repeats < 1:
        parser.error("--repeats is at least 1")
    passed_on = ["--quick"] * options.quick + (["--repeats", str(options.repeats)] if options.repeats else [])
    results = []
    failed = []
    chosen = options.suites or SUITES
    runs = [(suite, one) for one in options.database or ["sqlite"] for suite in chosen if suite != "peers"]
    if "peers" in chosen:
        runs.append(("peers", ""))  # The peers have databases of their own.
    for suite, database in runs:
        name = f"{suite}, {database}" if database else suite
        print(f"\n{name}", flush=True)
        result = run(suite, [*(["--database", database] if database else []), *passed_on])
        if result is None:
            failed.append(name)
        else:
            (print_table if database else peers.print_table)(result)
            results.append({"suite": suite, "database": database, **result})
    if results:
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{datetime.now(UTC):%Y-%m-%d-%H%M%S}.json"
        path.write_text(json.dumps(results, indent=2, ensure_ascii=False))
        print(f"\nAll figures: {path.relative_to(ROOT)}")
    if failed:
        sys.exit(f"These failed: {'; '.join(failed)}")


def run(suite: str, arguments: list[str]) -> dict[str, object] | None:
    """Run a suite in a process of its own; return its figures. None: it failed, and has printed the error itself."""
    command = [sys.executable, "-m", f"benchmarks.{suite}", *arguments, "--format", "json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE)
    if done.returncode:
        return None
    found: dict[str, object] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    main()
