"""
Measures the English of the project: how often a pronoun stands where a noun belongs.

    python -m tests.language [PATH …] [--list] [--format json]

Three groups of text are counted apart, each with the same limits per 1,000 words:

- `comments`: comments and docstrings of Python, and comments of JavaScript, CSS, templates, TOML, the Makefile and
  `.ci/run`.
- `pages`: Markdown.
- `messages`: texts for users. These are all strings of three words or more in Python (of exceptions, log lines, checks,
  help texts) and the texts of templates. SQL, the strings of tests and those of migrations are left out.

Code in backquotes, code blocks, doctests, placeholders and addresses are not counted. The exit code is 1 if a group of
the given paths, or of the whole project, is above a limit.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeGuard

ROOT = Path(__file__).resolve().parents[1]
PLACES = ("bgtasks", "bgtasks_project", "benchmarks", "tests", "docs", "templates", ".github", ".ci")
HASH_COMMENTS = ("Makefile", "run", ".toml", ".yaml", ".yml")
GROUPS = ("comments", "pages", "messages")


class Rule(NamedTuple):
    name: str
    words: re.Pattern[str]
    limit: float  # Per 1,000 words.
    may_ask: bool = False  # In a sentence that ends in a question mark the word is not counted.


RULES = (
    Rule("what", re.compile(r"\b(?:what|whatever)\b", re.IGNORECASE), 2, may_ask=True),
    Rule("tell", re.compile(r"\b(?:tell|tells|told|telling)\b", re.IGNORECASE), 0.5),
    Rule(
        "somebody",
        re.compile(r"\b(?:somebody|someone|nobody|no\s+one|anybody|everybody|whoever)\b", re.IGNORECASE),
        0.3,
    ),
)

WORD = re.compile(r"[A-Za-zÀ-ɏ]+(?:['’-][A-Za-zÀ-ɏ]+)*")
SENTENCE_END = re.compile(r"[.!?](?=[\s\"'”)*_]|$)|\n\s*\n")
# Python, templates and Markdown have these in the middle of a sentence.
CODE = re.compile(r"``.+?``|`(?:[^`\n]|\n(?!\s*\n))+`|https?://\S+|%\(\w+\)\w|\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
DOCTEST = re.compile(r"^[ \t]*>>>.*?(?=^[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
DIRECTIVE = re.compile(r"#\s*(?:noqa|type: ignore|pragma)\b[^#]*")
STRING_PREFIX = re.compile(r"\b[bfru]{1,2}(?=[\"'])", re.IGNORECASE)
FIELD = re.compile(r"\{[^{}]*\}")  # Of an f-string.
SQL = re.compile(r"\W*(?:SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP|WITH|SET|PRAGMA)\b")
MARKDOWN_CODE = re.compile(
    r"^[ \t]*(?P<fence>```+|~~~+).*?^[ \t]*(?P=fence)"  # Between fences,
    r"|(?:(?<=\n\n)|\A)(?:(?: {4}|\t)[^\n]*\n|\n(?= {4}))+"  # indented after an empty line,
    r"|<!--.*?-->|(?<=\])\([^)\s]*\)",  # comments, and where a link leads.
    re.MULTILINE | re.DOTALL,
)
HTML_COMMENT = re.compile(r"\{#.*?#\}|\{% comment.*?endcomment %\}|<!--.*?-->", re.DOTALL)
TRANSLATED = re.compile(r"\{% translate (\"[^\"]*\"|'[^']*').*?%\}")
NOT_TEXT = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>|\{%.*?%\}|\{\{.*?\}\}", re.DOTALL)
C_COMMENT = re.compile(r"/\*.*?\*/|(?<![^\s;{}(),])//\s.*?$", re.MULTILINE | re.DOTALL)
HASH_COMMENT = re.compile(r"(?<!\S)#+\s.*?$", re.MULTILINE)


class Passage(NamedTuple):
    """A piece of text and the line of the file on which it starts."""

    group: str
    path: str
    line: int
    text: str


class Hit(NamedTuple):
    rule: Rule
    path: str
    line: int
    text: str  # The line it stands on.


# Reading.


def read(path: Path, name: str) -> list[Passage]:
    """Return the passages of a file; `name` is how it is called in them."""
    reader = reader_of(path)
    return [Passage(group, name, line, text) for group, line, text in reader(path.read_text(), name)] if reader else []


Piece = tuple[str, int, str]  # Group, line, text.
Reader = Callable[[str, str], Iterator[Piece]]


def reader_of(path: Path) -> Reader | None:
    by_suffix: dict[str, Reader] = {
        ".py": read_python,
        ".md": read_markdown,
        ".html": read_template,
        ".js": read_c_comments,
        ".css": read_c_comments,
    }
    if path.name in HASH_COMMENTS or path.suffix in HASH_COMMENTS:
        return read_hash_comments
    return by_suffix.get(path.suffix)


def read_python(source: str, name: str) -> Iterator[Piece]:
    yield from read_comments(source)
    is_for_users = not name.startswith("tests/") and "/migrations/" not in name
    lines = source.encode().splitlines(keepends=True)
    for node, is_docstring in find_strings(ast.parse(source)):
        text = cut_out(lines, node)
        if is_docstring:
            yield "comments", node.lineno, blank(DOCTEST, text)
        elif is_for_users and is_message(text := blank(FIELD, text)):
            yield "messages", node.lineno, text


def read_comments(source: str) -> Iterator[Piece]:
    """Yield the comments; those on lines of their own that follow each other are one text."""
    block: list[str] = []
    last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        line = token.start[0]
        text = DIRECTIVE.sub("", token.string).lstrip("#! ")
        is_alone = not token.line[: token.start[1]].strip()
        if block and not (is_alone and line == last + 1):
            yield "comments", last - len(block) + 1, "\n".join(block)
            block = []
        if is_alone:
            block.append(text)
            last = line
        else:
            yield "comments", line, text
    if block:
        yield "comments", last - len(block) + 1, "\n".join(block)


def find_strings(node: ast.AST) -> Iterator[tuple[ast.expr, bool]]:
    """Yield each string, and whether it is a docstring, that is, a statement by itself."""
    for child in ast.iter_child_nodes(node):
        if is_string(child):
            yield child, isinstance(node, ast.Expr)
        else:
            yield from find_strings(child)


def is_string(node: ast.AST) -> TypeGuard[ast.expr]:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def cut_out(lines: list[bytes], node: ast.expr) -> str:
    """Return the source of a string, since its value has other lines; its columns count bytes."""
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    part = lines[node.lineno - 1 : node.end_lineno]
    part[-1] = part[-1][: node.end_col_offset]
    part[0] = part[0][node.col_offset :]
    return STRING_PREFIX.sub("", b"".join(part).decode()).replace("\\n", "  ")


def is_message(text: str) -> bool:
    return len(WORD.findall(text)) >= 3 and not SQL.match(text)


def read_markdown(text: str, _: str) -> Iterator[Piece]:
    yield "pages", 1, blank(MARKDOWN_CODE, text)


def read_template(text: str, _: str) -> Iterator[Piece]:
    for found in HTML_COMMENT.finditer(text):
        yield "comments", line_of(text, found.start()), re.sub(r"\{%.*?%\}", "", found[0])
    rest = blank(HTML_COMMENT, text)
    for found in TRANSLATED.finditer(rest):
        yield "messages", line_of(rest, found.start()), found[1]
    yield "messages", 1, blank(NOT_TEXT, rest)


def read_c_comments(text: str, _: str) -> Iterator[Piece]:
    yield from read_matches(C_COMMENT, text)


def read_hash_comments(text: str, _: str) -> Iterator[Piece]:
    yield from read_matches(HASH_COMMENT, text)


def read_matches(pattern: re.Pattern[str], text: str) -> Iterator[Piece]:
    for found in pattern.finditer(text):
        yield "comments", line_of(text, found.start()), found[0]


def blank(pattern: re.Pattern[str], text: str) -> str:
    """Replace matches by as many line breaks as they have, so that later lines keep their numbers."""
    return pattern.sub(lambda found: "\n" * found[0].count("\n") or " ", text)


def line_of(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


# Counting.


@dataclass
class Count:
    words: int
    hits: Counter[str]

    def __add__(self, other: Count) -> Count:
        return Count(self.words + other.words, self.hits + other.hits)

    def per_1000(self, rule: Rule) -> float:
        return 1000 * self.hits[rule.name] / self.words if self.words else 0.0

    def broken(self) -> list[Rule]:
        """Return the rules whose limit is exceeded."""
        return [rule for rule in RULES if self.per_1000(rule) > rule.limit]


def count(passages: Iterable[Passage]) -> Count:
    total = Count(0, Counter())
    for passage in passages:
        words = len(WORD.findall(blank(CODE, passage.text)))
        total += Count(words, Counter(hit.rule.name for hit in find(passage)))
    return total


def find(passage: Passage) -> Iterator[Hit]:
    """Yield the words of the rules in a passage."""
    text = blank(CODE, passage.text)
    for rule in RULES:
        for found in rule.words.finditer(text):
            if not (rule.may_ask and is_question(text, found.end())):
                number = line_of(text, found.start()) - 1
                # The line as it stands in the file, with its code.
                yield Hit(rule, passage.path, passage.line + number, passage.text.split("\n")[number].strip())


def find_all(passages: Iterable[Passage]) -> list[Hit]:
    """Return the words of the rules in the order of files and lines."""
    return sorted((hit for passage in passages for hit in find(passage)), key=lambda hit: (hit.path, hit.line))


def is_question(text: str, position: int) -> bool:
    """Say whether the sentence around a position ends in a question mark."""
    end = SENTENCE_END.search(text, position)
    return end is not None and end[0] == "?"


def place_of(path: str) -> str:
    """Return the row of the table a file belongs to: a room of bgtasks, or the top folder or file."""
    parts = path.split("/")
    return "/".join(parts[:2]) if parts[0] == "bgtasks" and len(parts) > 2 else parts[0]


# Printing.


def find_files(paths: list[Path]) -> Iterator[Path]:
    for path in paths:
        found = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (file for file in found if "__pycache__" not in file.parts and file.is_file() and reader_of(file))


def project_paths() -> list[Path]:
    top = [path for path in sorted(ROOT.iterdir()) if path.is_file() and reader_of(path)]
    return [*(ROOT / place for place in PLACES if (ROOT / place).exists()), *top]


def name_of(path: Path) -> str:
    path = path.resolve()
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def read_project(paths: Iterable[Path] = ()) -> list[Passage]:
    """Return the passages of files and folders, by default of the whole project."""
    files = find_files(list(paths) or project_paths())
    return [passage for file in files for passage in read(file, name_of(file))]


Table = dict[tuple[str, str], Count]  # By group and place; the sum of a group has the place "all".


def tabulate(passages: list[Passage]) -> Table:
    table: Table = {}
    for group in GROUPS:
        of_group = [passage for passage in passages if passage.group == group]
        for place in sorted({place_of(passage.path) for passage in of_group}):
            table[group, place] = count(passage for passage in of_group if place_of(passage.path) == place)
        table[group, "all"] = count(of_group)
    return table


def find_broken(table: Table) -> list[str]:
    """Return a sentence for each limit that the sum of a group exceeds."""
    return [
        f"{group}: {counted.per_1000(rule):.1f} × “{rule.name}” per 1,000 words; the limit is {rule.limit:g}."
        for (group, place), counted in table.items()
        if place == "all"
        for rule in counted.broken()
    ]


def print_table(table: Table) -> None:
    print(f"{'':28}{'words':>9}", *(f"{rule.name:>10}" for rule in RULES), "  per 1,000 words")
    for (group, place), counted in table.items():
        if not counted.words:
            continue
        rates = (f"{counted.per_1000(rule):9.1f}{'!' if rule in counted.broken() else ' '}" for rule in RULES)
        print(f"{group:9} {place:18}{counted.words:9,}", *rates)


def print_json(table: Table, hits: list[Hit] | None) -> None:
    rows = [
        {"group": group, "place": place, "words": counted.words}
        | {rule.name: round(counted.per_1000(rule), 2) for rule in RULES}
        for (group, place), counted in table.items()
    ]
    answer: dict[str, object] = {"limits": {rule.name: rule.limit for rule in RULES}, "rows": rows}
    if hits is not None:
        answer["hits"] = [{**hit._asdict(), "rule": hit.rule.name} for hit in hits]
    print(json.dumps({**answer, "broken": find_broken(table)}, indent=2, ensure_ascii=False))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.language", description="Measure the English of the project.")
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="files and folders; default: the project")
    parser.add_argument("--list", action="store_true", help="print each hit with its file and line")
    parser.add_argument("--format", choices=["table", "json"], default="table")
    options = parser.parse_args(arguments)
    passages = read_project(options.paths)
    hits = find_all(passages) if options.list else None
    table = tabulate(passages)
    if options.format == "json":
        print_json(table, hits)
    else:
        for hit in hits or ():
            print(f"{hit.path}:{hit.line}: [{hit.rule.name}] {hit.text}")
        print_table(table)
        print(*find_broken(table), sep="\n")
    return 1 if find_broken(table) else 0


if __name__ == "__main__":
    sys.exit(main())
