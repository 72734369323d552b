"""
List the modules in docs/architecture.md, each with the first sentence of its docstring.

`python docs/modules.py` rewrites the list. A test fails while the list is out of date.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/architecture.md"
BEGIN, END = "<!-- modules -->\n", "<!-- end of modules -->\n"
LEFT_OUT = {"migrations"}


def find_modules() -> list[tuple[str, str, str]]:
    """Return (room, module, sentence) of each module with code or a docstring, by room."""
    package = ROOT / "bgtasks"
    found = []
    for path in sorted(package.rglob("*.py")):
        place = path.relative_to(package)
        if place.parts[0] in LEFT_OUT or not (text := path.read_text(encoding="utf-8").strip()):
            continue
        room = "/".join(place.parts[:-1])
        found.append((room, str(place), _first_sentence(place, text)))
    return sorted(found)


def _first_sentence(place: Path, text: str) -> str:
    docstring = ast.get_docstring(ast.parse(text)) or ""
    if not docstring:
        raise SystemExit(f"bgtasks/{place} has no docstring.")
    paragraph = " ".join(docstring.partition("\n\n")[0].split())
    sentence = re.split(r"(?<=[.?])\s+(?=[A-Z`])", paragraph)[0]
    return sentence.removesuffix(".")


def write_list() -> str:
    """Return the list as Markdown: a table for each room."""
    return "".join(_write_tables())


def _write_tables() -> Iterator[str]:
    for room, modules in groupby(find_modules(), key=lambda found: found[0]):
        yield f"\n### `bgtasks/{room}/`\n\n" if room else "\n### `bgtasks/`\n\n"
        yield "| module | contents |\n|---|---|\n"
        for _, module, sentence in modules:
            name = module.rpartition("/")[2]
            yield f"| `{name}` | {sentence.replace('|', chr(92) + '|')} |\n"
    yield "\n"


def main() -> None:
    """Rewrite the list."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}{write_list()}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
