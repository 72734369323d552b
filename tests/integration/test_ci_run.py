"""`.ci/run` runs all its stages and reports each. Stubs replace its programs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ["chromium", "pgbouncer", "redis-server", "pkg-config", "mariadb_config", "gcc", "python3.11", "python3.13"]
# Logs its targets. With a file fail-TARGET it fails; with a file output-DB it prints that as pytest's output.
MAKE = """
    #!/usr/bin/env bash
    for word in "$@"; do
      case "$word" in
        VENV=*) mkdir -p "${word#VENV=}/bin"; cp "$STUBS/python3.11" "${word#VENV=}/bin/python"; venv="${word#VENV=}" ;;
        DB=*) database="${word#DB=}" ;;
        *=* | --*) ;;
        *) targets="${targets:-}${targets:+ }$word" ;;
      esac
    done
    for target in $targets; do
      echo "$venv ${target#"$venv/"} ${database:-}" >>"$STUBS/log"
      [ "$target" != test ] || cat "$STUBS/output-$database" 2>/dev/null || echo "===== 7 passed in 1.23s ====="
      ! [ -e "$STUBS/fail-${target##*/}" ] || exit 2
    done
"""


class Ci:
    """The script in a folder of its own, with the stubs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stubs = folder / "stubs"
        self.stubs.mkdir()
        for name in PROGRAMS:
            self.add_program(name, "#!/bin/sh\necho fine\n")
        self.add_program("make", textwrap.dedent(MAKE).lstrip())
        (folder / ".ci").mkdir()
        shutil.copy(ROOT / ".ci" / "run", folder / ".ci" / "run")

    def add_program(self, name: str, text: str) -> None:
        (self.stubs / name).write_text(text)
        (self.stubs / name).chmod(0o755)

    def write(self, name: str, text: str = "") -> None:
        (self.stubs / name).write_text(text)

    def run(self) -> tuple[int, str]:
        variables = {**os.environ, "PATH": f"{self.stubs}:{os.environ['PATH']}", "STUBS": str(self.stubs)}
        done = subprocess.run(
            ["bash", ".ci/run"], cwd=self.folder, env=variables, capture_output=True, text=True, timeout=60
        )
        return done.returncode, done.stdout + done.stderr

    def made(self) -> list[str]:
        return (self.stubs / "log").read_text().splitlines()


@pytest.fixture
def ci(tmp_path: Path) -> Ci:
    return Ci(tmp_path)


def outcomes(output: str) -> dict[str, str]:
    """Return the outcome of each stage from the table at the end."""
    table = output.rpartition("=== All stages, in ")[2]
    return {heading: outcome for outcome, heading in re.findall(r"^(\w[\w ]+?) +\d+ s  (.+)$", table, re.MULTILINE)}


def test_all_stages_pass(ci: Ci):
    code, output = ci.run()

    assert code == 0, output
    assert set(outcomes(output).values()) == {"passed"}
    closing = output.rpartition("=== All stages have passed.\n")[2].splitlines()
    assert len(closing) == 6
    assert closing[0] == "Python 3.11, Django 5.2, asgiref 3.8.1, sqlite: ===== 7 passed in 1.23s ====="


def test_lint_comes_before_the_other_environment_and_the_servers(ci: Ci):
    ci.run()

    assert ci.made()[:4] == [".venv-3.13 .installed ", ".venv-3.13 lint ", ".venv-3.13 types ", ".venv .installed "]


def test_failed_stage_does_not_stop_the_others(ci: Ci):
    ci.write("fail-lint")

    code, output = ci.run()

    assert code == 1
    assert [heading for heading, outcome in outcomes(output).items() if outcome != "passed"] == ["Style and layers"]
    assert "=== Not all stages have passed.\n" in output
    assert ci.made()[-1] == ".venv smoke "


def test_stage_without_its_preparation_is_not_run(ci: Ci):
    ci.write("fail-.driver-mariadb")

    code, output = ci.run()

    assert code == 1
    found = outcomes(output)
    assert {heading for heading, outcome in found.items() if outcome == "FAILED"} == {
        "Driver of mariadb: Python 3.11, Django 5.2, asgiref 3.8.1",
        "Driver of mariadb: Python 3.13, Django 6.1",
    }
    assert {heading for heading, outcome in found.items() if outcome == "not run"} == {
        "MariaDB answers",
        "Tests: Python 3.11, Django 5.2, asgiref 3.8.1, MariaDB",
        "Tests: Python 3.13, Django 6.1, MariaDB, next to the driver",
    }
    assert [line for line in ci.made() if line.endswith("test mariadb")] == []


def test_failed_and_skipped_tests_are_named_at_the_end(ci: Ci):
    ci.write("output-mariadb", "FAILED tests/a.py::test_a - assert 0\n==== 1 failed, 6 passed in 2.00s ====\n")
    ci.write("output-postgresql", "SKIPPED [1] tests/b.py:3: no browser\n==== 6 passed, 1 skipped in 2.00s ====\n")

    code, output = ci.run()

    assert code == 1
    assert outcomes(output)["Tests: Python 3.13, Django 6.1, PostgreSQL"] == "FAILED"
    assert outcomes(output)["Tests: Python 3.11, Django 5.2, asgiref 3.8.1, SQLite"] == "passed"
    named = output.rpartition("=== Failed tests\n")[2]
    assert "Python 3.11, Django 5.2, asgiref 3.8.1, mariadb: FAILED tests/a.py::test_a - assert 0\n" in named
    assert "Python 3.13, Django 6.1, postgresql: SKIPPED [1] tests/b.py:3: no browser\n" in named
    assert output.endswith("Python 3.13, Django 6.1, mariadb: ==== 1 failed, 6 passed in 2.00s ====\n")


def test_missing_python_leaves_the_other_one(ci: Ci):
    ci.add_program("python3.13", "#!/bin/sh\nexit 1\n")
    ci.add_program("python3", "#!/bin/sh\nexit 1\n")

    code, output = ci.run()

    assert code == 1
    assert "Python 3.13 is not installed." in output
    found = outcomes(output)
    assert found["Environment: Python 3.13, Django 6.1"] == "FAILED"
    assert found["Style and layers"] == "not run"
    assert found["Tests: Python 3.11, Django 5.2, asgiref 3.8.1, SQLite"] == "passed"
