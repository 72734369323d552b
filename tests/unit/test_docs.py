"""The documentation agrees with the code: its Python compiles, its links lead somewhere, its tables list the code."""

from __future__ import annotations

import ast
import dataclasses
import re
import runpy
from pathlib import Path

import pytest

import bgtasks
from bgtasks import signals, testing
from bgtasks.conf import Settings
from bgtasks.definition.options import Options, UsingOptions
from bgtasks.models import BackgroundTask, Process
from bgtasks.status import TRANSITIONS, Status
from tests.pages import BLOCKS, PAGES, ROOT, Block, compile_block, name_of, read_table, unquoted

LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)")


def test_every_fence_of_python_is_found():
    fences = sum(page.read_text().count("```python") for page in PAGES)

    assert len(BLOCKS) == fences > 10


@pytest.mark.parametrize("block", BLOCKS, ids=name_of)
def test_block_compiles(block: Block):
    compile_block(block)


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


def test_statuses_table_divides_live_and_finished():
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
    """A function to fire."""


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
