"""The tests of a project that uses bgtasks: by Django's runner and by pytest, on each kind of database."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import databases
from tests.installed import install_metadata

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
ADOPTER = ROOT / "tests" / "adopter"
KINDS = ["memory", "file"] if databases.KIND == "sqlite" else [databases.KIND]

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Run Python in the adopter's project and return its output."""
    project = tmp_path / "project"
    shutil.copytree(ADOPTER, project, ignore=shutil.ignore_patterns("__pycache__"))
    name = f"bgtasks_shop_{os.getpid()}"
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "DJANGO_"))}

    def run(*arguments: str, kind: str = KINDS[-1], succeeds: bool = True) -> str:
        paths = [str(ROOT), str(install_metadata(tmp_path / "installed"))]
        environment = {**inherited, "PYTHONPATH": os.pathsep.join(paths), "SHOP_DB": kind, "SHOP_DB_NAME": name}
        done = subprocess.run(
            [sys.executable, "-W", "error", *arguments],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            timeout=110,
        )
        output = done.stdout + done.stderr
        assert (done.returncode == 0) is succeeds, output
        return output

    yield run
    if databases.KIND != "sqlite":
        for left in (f"test_{name}", f"test_{name}_1", f"test_{name}_2", f"test_{name}_gw0", f"test_{name}_gw1"):
            databases.drop_database(left)


def assert_databases_are_dropped(kind: str, project: Path, output: str) -> None:
    assert "teardown test databases" not in output  # The words of pytest-django for a failure to do so.
    if databases.KIND == "postgresql":
        names = databases.query("postgres", "SELECT datname AS name FROM pg_database")
    elif databases.KIND == "mariadb":
        names = databases.query("mysql", "SELECT schema_name AS name FROM information_schema.schemata")
    else:
        assert not list(project.glob("*.sqlite3"))
        return
    assert [row["name"] for row in names if row["name"].startswith(f"test_bgtasks_shop_{os.getpid()}")] == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("parallel", [(), ("--parallel", "2")], ids=["serial", "parallel"])
def test_djangos_runner(run: Run, tmp_path: Path, kind: str, parallel: tuple[str, ...]):
    output = run("manage.py", "test", "--shuffle", *parallel, kind=kind)

    assert re.search(r"^Ran (\d+) tests", output, re.MULTILINE)[1] == str(count_tests("tests.py")), output
    assert f"OK (skipped={5 if kind == 'memory' else 2})" in output
    assert_databases_are_dropped(kind, tmp_path / "project", output)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("processes", ["0", "2"], ids=["serial", "xdist"])
def test_pytest(run: Run, tmp_path: Path, kind: str, processes: str):
    output = run("-m", "pytest", "-n", processes, kind=kind)

    skipped = 9 if kind == "memory" else 2
    passed = count_tests("tests.py") + count_tests("check_shop.py") - skipped
    assert f" {passed} passed, {skipped} skipped in " in output, output
    assert_databases_are_dropped(kind, tmp_path / "project", output)


def test_tasks_run_in_the_process_of_a_live_daphne(run: Run):
    """A task captured in another process would be invisible to the test."""
    assert "OK" in run("manage.py", "test", "shop.behind_daphne")


def test_projects_without_bgtasks_do_not_notice_the_plugin(run: Run, tmp_path: Path):
    (tmp_path / "project" / "test_plain.py").write_text("""
import sys

def test_is_not_used(request):
    assert request.config.pluginmanager.hasplugin("bgtasks")
    assert not {"bgtasks.testing", "bgtasks.models"} & sys.modules.keys()
""")
    settings = tmp_path / "project" / "other_settings.py"
    settings.write_text("""
SECRET_KEY = "only-for-tests"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes"]
""")

    (tmp_path / "project" / "plain.ini").write_text("[pytest]")

    without_django = ("-p", "no:django", "-p", "no:asyncio", "-c", "plain.ini")
    assert " 1 passed in " in run("-m", "pytest", *without_django, "test_plain.py")
    assert " 1 passed in " in run("-m", "pytest", "--ds", "other_settings", "test_plain.py")


def count_tests(file: str) -> int:
    return len(re.findall(r"^\s*(?:async )?def test_", (ADOPTER / "shop" / file).read_text(), re.MULTILINE))
