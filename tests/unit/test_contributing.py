"""The pages for contributors name files that exist, and the decisions have one form and one index."""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DECISIONS = sorted((ROOT / "docs/decisions").glob("0*.md"))
PAGES = [ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", ROOT / "docs/decisions/README.md", *DECISIONS]
BLOCK = re.compile(r"^([ ]*)```python\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_exist(page: Path):
    text = page.read_text()
    named = re.findall(r"`((?:bgtasks|tests|docs|benchmarks)/[\w./]*|[\w.]+\.(?:toml|md)|\.ci/run)`", text)
    linked = [page.parent / path for path in re.findall(r"\]\((?!https?:)([^)#]+)", text)]

    assert [str(path) for path in [*(ROOT / name for name in named), *linked] if not path.exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_anchors_exist(page: Path):
    for path, anchor in re.findall(r"\]\((?!https?:)([^)#]+)#([^)]+)\)", page.read_text()):
        headings = re.findall(r"^#+ (.+)$", (page.parent / path).read_text(), re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert anchor in anchors, f"{page.name} links to {path}#{anchor}"


def test_examples_compile():
    blocks = [textwrap.dedent(code) for _, code in BLOCK.findall((ROOT / "CONTRIBUTING.md").read_text())]

    assert len(blocks) > 5
    for block in blocks:
        ast.parse(block)


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.name)
def test_decision_has_its_parts(page: Path):
    headings = re.findall(r"^#+ .+$", page.read_text(), re.MULTILINE)

    assert headings[1:] == ["## Context", "## Decision", "## Consequences"]
    assert headings[0].startswith(f"# {int(page.name[:4])}. ")
    assert len(page.read_text().splitlines()) <= 60  # One page.


def test_index_of_decisions_has_each():
    rows = re.findall(
        r"^\| (\d+) \| \[(.+)\]\((.+)\) \|$", (ROOT / "docs/decisions/README.md").read_text(), re.MULTILINE
    )

    assert [(f"# {number}. {title}", name) for number, title, name in rows] == [
        (page.read_text().splitlines()[0], page.name) for page in DECISIONS
    ]
