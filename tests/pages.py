"""The pages of the documentation: their blocks of Python and their tables."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^(?:<!-- tests: (?P<order>[^\n]+) -->\n)?```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """
    A block of Python.

    The comment before a block is its order: `<!-- tests: run -->` has the tests run it on a running runtime,
    `<!-- tests: file PATH -->` and `<!-- tests: append PATH -->` write it into the project of the tutorial.
    """

    page: str
    line: int
    order: str
    code: str


def _find_blocks() -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text()
        for found in _BLOCK.finditer(text):
            line = text.count("\n", 0, found.start("code")) + 1
            yield Block(page.name, line, found["order"] or "", found["code"])


BLOCKS = list(_find_blocks())


def name_of(block: Block) -> str:
    return f"{block.page}:{block.line}"


def compile_block(block: Block) -> Any:
    # Blank lines replace the text before the block, so that a traceback has the line numbers of the page.
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
