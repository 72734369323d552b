"""
The documentation says what the code does: its Python runs, its tables are compared with their sources.

A comment before a block of Python says what to do with it: `<!-- tests: run -->` runs it on a running runtime,
`<!-- tests: file PATH -->` and `<!-- tests: append PATH -->` write it into the tutorial's project. Each block compiles.
"""

from __future__ import annotations

import ast
import dataclasses
import os
import re
import runpy
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import bgtasks
from bgtasks import signals, testing
from bgtasks.conf import Settings
from bgtasks.definition import declared
from bgtasks.definition.options import Options, UsingOptions
from bgtasks.models import BackgroundTask, Process
from bgtasks.status import TRANSITIONS, Status
from tests.installed import install_metadata

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^(?:<!-- tests: (?P<order>[^\n]+) -->\n)?```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)")


class Block(NamedTuple):
    page: str
    line: int
    order: str
    code: str


def find_blocks() -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text()
        for found in BLOCK.finditer(text):
            line = text.count("\n", 0, found.start("code")) + 1
            yield Block(page.name, line, found["order"] or "", found["code"])


BLOCKS = list(find_blocks())


def name_of(block: Block) -> str:
    return f"{block.page}:{block.line}"


def compile_block(block: Block) -> Any:
    # The lines before it as blank ones, so that a traceback shows the line of the page.
    return compile("\n" * (block.line - 1) + block.code, block.page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def read_table(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table under a heading, without its own heading."""
    text = (ROOT / page).read_text()
    _, _, section = text.partition(f"# {heading}\n")
    assert section, f"{page} has no heading {heading!r}"
    rows: list[list[str]] = []
    for line in section.partition("\n#")[0].splitlines():
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line[1:-1].split("|")])
        elif rows:
            break
    return rows[2:]


def unquoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_fence_of_python_is_found():
    fences = sum(page.read_text().count("```python") for page in PAGES)

    assert len(BLOCKS) == fences > 10


@pytest.mark.parametrize("block", BLOCKS, ids=name_of)
def test_block_compiles(block: Block):
    compile_block(block)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.order == "run"], ids=name_of)
async def test_block_runs(block: Block, runtime: Any):
    declared.clear()  # In place: the registry looks there. A fixture brings back what was in it.
    waiting = eval(compile_block(block), {"__name__": "docs"})  # As the compiler wants it for an `await` at the top.

    if waiting is not None:
        await waiting


def test_orders_are_known():
    orders = {block.order.partition(" ")[0] for block in BLOCKS}

    assert orders <= {"", "run", "file", "append"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path):
    for path, anchor in LINK.findall(page.read_text()):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {path}"
        if anchor:
            assert anchor in anchors_of(target), f"{page.name} links to {path}#{anchor}"


def anchors_of(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


# Tables.


def test_settings_table_has_each_key_with_its_default():
    documented = {unquoted(key)[0]: ast.literal_eval(unquoted(default)[0]) for key, default, *_ in settings_table()}

    assert documented == {field.name.upper(): getattr(Settings(), field.name) for field in dataclasses.fields(Settings)}


def test_settings_without_effect_are_called_reserved():
    sources = [path.read_text() for path in (ROOT / "bgtasks").rglob("*.py") if path.name != "conf.py"]
    read = {name for source in sources for name in re.findall(r"settings(?:\(\))?\.([a-z_]+)\b", source)}
    reserved = {unquoted(key)[0].lower() for key, _, _, meaning in settings_table() if meaning.startswith("Reserved")}

    assert reserved == {field.name for field in dataclasses.fields(Settings)} - read


def settings_table() -> list[list[str]]:
    return read_table("docs/reference.md", "Settings")


def test_options_table_is_the_decorator():
    table = read_table("docs/reference.md", "Task functions")
    documented = {unquoted(name)[0]: unquoted(default)[0] for name, _, _, default, _ in table}
    options = dataclasses.asdict(Options())
    not_kept = {unquoted(name)[0] for name, kind, *_ in table if name.endswith("*")}

    assert list(documented) == ["name", *options]
    assert documented["name"] == "module.qualname"
    assert {name: eval(documented[name]) for name in options} == options  # `Exception` is no literal.
    assert not_kept == set(options) - set(UsingOptions.__annotations__)


def test_transitions_table_is_the_code():
    documented = {
        Status(source[0]) if (source := unquoted(cells[0])) else None: {Status(name) for name in unquoted(cells[1])}
        for cells in read_table("docs/states.md", "Allowed transitions")
    }

    assert documented == TRANSITIONS


def test_diagram_shows_each_transition():
    edges = re.findall(r"^ +(\S+) --> (\w+):", (ROOT / "docs/states.md").read_text(), re.MULTILINE)
    drawn = {(None if source == "[*]" else Status(source), Status(target)) for source, target in edges}

    assert drawn == {(source, target) for source, targets in TRANSITIONS.items() for target in targets}


def test_statuses_table_tells_live_from_finished():
    table = {Status(unquoted(status)[0]): live for status, _, live in read_table("docs/states.md", "States")}

    assert table == {status: "no" if status.is_finished else "yes" for status in Status}


def test_transitions_with_causes_are_allowed():
    for source, target, _ in read_table("docs/states.md", "Causes of each transition"):
        before = Status(unquoted(source)[0]) if unquoted(source) else None
        assert Status(unquoted(target)[0]) in TRANSITIONS[before]


def test_permissions_table_is_the_models():
    documented = {unquoted(cells[0])[0] for cells in read_table("docs/reference.md", "The admin")}

    own = [*BackgroundTask._meta.permissions, *Process._meta.permissions]
    assert documented == {f"bgtasks.{codename}" for codename, _ in own}


def test_checks_table_has_each_id():
    documented = [unquoted(cells[0])[0] for cells in read_table("docs/reference.md", "System checks")]

    assert documented == sorted(set(re.findall(r'id="(bgtasks\.\w+)"', (ROOT / "bgtasks/checks.py").read_text())))


def test_signals_table_has_each_signal():
    documented = {unquoted(cells[0])[0] for cells in read_table("docs/reference.md", "Signals")}

    assert documented == set(signals.__all__)


@pytest.mark.parametrize(
    ("heading", "kind"), [("TaskHandle", bgtasks.TaskHandle), ("current", type(None))], ids=["TaskHandle", "current"]
)
def test_members_tables_are_the_classes(heading: str, kind: type):
    if heading == "current":
        from bgtasks.runtime.context import TaskContext as kind
    cells = [cells[0] for cells in read_table("docs/reference.md", heading)]
    documented = {re.match(r"(?:await )?(?:handle\.?)?(\w*)", name)[1] for cell in cells for name in unquoted(cell)} - {
        ""
    }

    assert documented == {name for name in vars(kind) if not name.startswith("_")}


def test_testing_tables_are_the_code():
    bgtasks.fire(time_flies)
    item = testing.fired[-1]
    testing.fired.clear()
    documented = {re.search(r"\w+", unquoted(name)[0].removeprefix("await "))[0] for name, _ in tables_of_testing(0)}
    attributes = {name for cells, _ in tables_of_testing(1) for name in unquoted(cells)}

    assert documented == set(testing.__all__)
    assert attributes == {name for name in dir(item) if not name.startswith("_")}


async def time_flies() -> None:
    """Something to fire."""


def tables_of_testing(number: int) -> list[list[str]]:
    section = (ROOT / "docs/testing.md").read_text().partition("## Fired tasks")[2].partition("\n## ")[0]
    tables = re.findall(r"^\|.*?\n(?!\|)", section, re.MULTILINE | re.DOTALL)
    return [[cell.strip() for cell in line[1:-1].split(" | ")] for line in tables[number].strip().splitlines()[2:]]


@pytest.mark.parametrize("name", bgtasks.__all__)
def test_reference_names_each_public_name(name: str):
    assert re.search(rf"\b{name}\b", (ROOT / "docs/reference.md").read_text())


def test_architecture_lists_each_module_as_its_docstring_describes_it():
    """Both ways: a module without a line fails, and so does a line without a module."""
    modules = runpy.run_path(str(ROOT / "docs/modules.py"))
    listed = (ROOT / "docs/architecture.md").read_text().partition(modules["BEGIN"])[2].partition(modules["END"])[0]

    assert listed == modules["write_list"](), "Run `python docs/modules.py`."


# The tutorial, as a reader would follow it.


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tutorial's project, with its tables."""
    folder = tmp_path_factory.mktemp("tutorial")
    run_in(folder, "-m", "django", "startproject", "shop", ".")
    for block in BLOCKS:
        order, _, path = block.order.partition(" ")
        if order == "file":
            (folder / path).write_text(block.code)
        elif order == "append":
            with (folder / path).open("a") as file:
                file.write(f"\n\n{block.code}")
    return folder


def run_in(folder: Path, *arguments: str, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**environment(), **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def environment() -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    return {**own, "PYTHONPATH": str(ROOT)}


def test_tutorial_passes_the_checks(shop: Path):
    assert "no issues" in run_in(shop, "manage.py", "check")


@pytest.mark.slow
def test_tests_of_the_tutorial_pass(shop: Path, tmp_path: Path):
    assert "Ran 5 tests" in run_in(shop, "-W", "error", "manage.py", "test")

    plugin = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(install_metadata(tmp_path))])}
    options = ["-p", "no:cacheprovider", "--ds", "shop.settings", "-W", "error", "-c", "/dev/null", "--rootdir", "."]
    output = run_in(
        shop, "-m", "pytest", *options, "-o", "asyncio_default_fixture_loop_scope=function", "shop", **plugin
    )
    assert " 4 passed" in output


def test_tutorial_runs_and_drains(shop: Path):
    run_in(shop, "manage.py", "migrate", "--verbosity", "0")
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "shop.asgi:application", "--port", str(port)]
    log = shop / "server.log"
    with log.open("w") as file:
        server = subprocess.Popen(
            [*command, "--timeout-graceful-shutdown", "5"], cwd=shop, env=environment(), stdout=file, stderr=file
        )
    try:
        wait_for_line(log, "Uvicorn running", server)
        for path in ["signup?name=ada", "prices", "wait", "rebuild"]:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=20) as answer:
                assert answer.status == 200
        server.send_signal(signal.SIGINT)
        server.wait(30)
    finally:
        server.kill()
        server.wait()

    assert " 0 cut short, 0 left running." in log.read_text()
    with sqlite3.connect(shop / "db.sqlite3") as connection:
        rows = connection.execute("SELECT name, status, result FROM bgtasks_backgroundtask ORDER BY id").fetchall()
    connection.close()
    assert rows == [
        ("shop.tasks.send_welcome", "SUCCESSFUL", '"welcomed ada"'),
        ("shop.tasks.import_prices", "FAILED", None),
        ("shop.tasks.rebuild_index", "SUCCESSFUL", "1"),
        ("shop.tasks.rebuild_index", "SUCCESSFUL", "3"),
    ]


def wait_for_line(log: Path, line: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while line not in log.read_text():
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
