"""
Measures the sizes of bgtasks: its classes, its functions, and the entries of its folder.

    python -m tests.sizes [FOLDER] [--top COUNT] [--format json]

A class or function is as long as its lines from `class` or `def` to the last one, with docstring and empty lines. The
methods of a class are the functions in its own body; those of its bases do not count. Migrations are left out.

The exit code is 1 if a limit is exceeded.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import json
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]


class ClassLimit(NamedTuple):
    lines: int
    methods: int


CLASS_LIMIT = ClassLimit(lines=300, methods=25)
CLASS_LIMITS = {"Journal": ClassLimit(lines=400, methods=30)}  # It is the one thread that writes.
P95_LINES = 23  # Of 100 functions at least 95 are at most this long.
LONG_LINES = 40
LONG_COUNT = 2  # So many functions may be longer than LONG_LINES.
ENTRIES = 35  # At the top of the folder.


@dataclass(frozen=True)
class Class:
    name: str
    place: str  # File and line.
    lines: int
    methods: int

    @property
    def limit(self) -> ClassLimit:
        return CLASS_LIMITS.get(self.name, CLASS_LIMIT)

    def is_too_large(self) -> bool:
        return self.lines > self.limit.lines or self.methods > self.limit.methods


@dataclass(frozen=True)
class Function:
    name: str
    place: str
    lines: int


@dataclass(frozen=True)
class Sizes:
    """Sizes of a folder, the largest classes and functions first."""

    classes: list[Class]
    functions: list[Function]
    entries: int

    def percentile(self, percent: int) -> int:
        """Return the number of lines that this percentage of the functions does not exceed."""
        lines = [function.lines for function in self.functions]
        if len(lines) < 2:
            return sum(lines)
        return int(statistics.quantiles(lines, n=100, method="inclusive")[percent - 1])

    def long_functions(self) -> list[Function]:
        return [function for function in self.functions if function.lines > LONG_LINES]

    def find_broken(self) -> Iterator[str]:
        """Yield a sentence for each limit that is exceeded."""
        for one in self.classes:
            if one.is_too_large():
                yield (
                    f"{one.place}: class {one.name} has {one.lines} lines and {one.methods} methods;"
                    f" the limits are {one.limit.lines} and {one.limit.methods}."
                )
        if self.percentile(95) > P95_LINES:
            yield f"95 % of the functions have up to {self.percentile(95)} lines; the limit is {P95_LINES}."
        if len(too_long := self.long_functions()) > LONG_COUNT:
            yield f"{len(too_long)} functions have more than {LONG_LINES} lines; the limit is {LONG_COUNT} functions."
        if self.entries > ENTRIES:
            yield f"The folder has {self.entries} entries; the limit is {ENTRIES}."


def measure(folder: Path) -> Sizes:
    classes: list[Class] = []
    functions: list[Function] = []
    for path in sorted(folder.rglob("*.py")):
        if "migrations" in path.relative_to(folder).parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                classes.append(Class(node.name, place_of(path, node, folder), lines_of(node), count_methods(node)))
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                functions.append(Function(node.name, place_of(path, node, folder), lines_of(node)))
    return Sizes(
        sorted(classes, key=lambda one: -one.lines),
        sorted(functions, key=lambda one: -one.lines),
        sum(entry.name != "__pycache__" for entry in folder.iterdir()),
    )


def place_of(path: Path, node: ast.stmt, folder: Path) -> str:
    return f"{path.relative_to(folder.parent)}:{node.lineno}"


def lines_of(node: ast.stmt) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def count_methods(node: ast.ClassDef) -> int:
    """Count the functions of a class by name: a property and its setter are one."""
    return len({child.name for child in node.body if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)})


def print_table(sizes: Sizes, top: int) -> None:
    print(f"{'Largest classes':40}{'lines':>8}{'methods':>9}")
    for one in sizes.classes[:top]:
        print(f"{one.name:40}{one.lines:8}{one.methods:9}  {one.place}{'  !' if one.is_too_large() else ''}")
    print(f"\n{'Longest functions':40}{'lines':>8}")
    for function in sizes.functions[:top]:
        print(f"{function.name:40}{function.lines:8}  {function.place}")
    print(
        f"\n{len(sizes.functions):,} functions: p50 {sizes.percentile(50)} lines, p95 {sizes.percentile(95)},"
        f" {len(sizes.long_functions())} above {LONG_LINES}."
        f"\n{len(sizes.classes):,} classes.\n{sizes.entries} entries in the folder."
    )


def print_json(sizes: Sizes, top: int) -> None:
    answer = {
        "classes": [dataclasses.asdict(one) for one in sizes.classes[:top]],
        "functions": [dataclasses.asdict(one) for one in sizes.functions[:top]],
        "function_count": len(sizes.functions),
        "p50": sizes.percentile(50),
        "p95": sizes.percentile(95),
        "above_40": len(sizes.long_functions()),
        "entries": sizes.entries,
        "broken": list(sizes.find_broken()),
    }
    print(json.dumps(answer, indent=2))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sizes", description="Measure classes and functions.")
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "bgtasks")
    parser.add_argument("--top", type=int, default=10, metavar="COUNT", help="how many of each are printed")
    parser.add_argument("--format", choices=["table", "json"], default="table")
    options = parser.parse_args(arguments)
    sizes = measure(options.folder.resolve())
    broken = list(sizes.find_broken())
    if options.format == "json":
        print_json(sizes, options.top)
    else:
        print_table(sizes, options.top)
        print(*broken, sep="\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
