"""
Brings the German catalogue up to date with the messages in the source: `make messages`.

GNU gettext merges the messages with the translations and compiles the catalogue. A new message is left untranslated,
and a changed one keeps its old translation, marked as fuzzy; both are listed at the end. The catalogue has neither
places in the source nor dates, and is sorted by message, so that it changes only where messages do.

The messages are read here instead of by Django's `makemessages`: so a test without gettext can compare them with the
catalogue, and those inside f-strings are found, which xgettext passes over.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import NamedTuple

from django.utils.translation.template import templatize

PACKAGE = Path(__file__).resolve().parents[1] / "bgtasks"
CATALOGUE = PACKAGE / "locale" / "de" / "LC_MESSAGES" / "django.po"
PROGRAMS = ["msgmerge", "msgattrib", "msgfmt"]

LINE = re.compile(r'(?:(?P<keyword>msg\w+(?:\[\d\])?) )?(?P<text>".*")')
PLACE = re.compile(r"%\(\w+\)[a-z]|%[sd]|%%")  # Of a value; `msgfmt --check-format` compares them.
ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\t": r"\t"})
DATE = re.compile(r'^"(?:POT-Creation|PO-Revision)-Date: .*"\n', re.MULTILINE)
# A call in the text that Django makes of a template: its arguments are literals.
STRING = r"u?(?:'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\")"
CALL = re.compile(rf"(?<!\w)(?P<function>_|n?gettext)\((?P<texts>{STRING}(?:, {STRING})*)")

Message = tuple[str, ...]  # One text, or singular and plural.


class Entry(NamedTuple):
    originals: list[str]  # One, or singular and plural.
    translations: list[str]
    flags: str

    def is_translated(self) -> bool:
        return all(self.translations) and "fuzzy" not in self.flags


# Reading.


def read_catalogue(text: str) -> list[Entry]:
    """Return the entries of a .po file, without its header."""
    entries = []
    for block in text.split("\n\n"):
        originals: list[str] = []
        translations: list[str] = []
        flags = ""
        for line in block.splitlines():
            if line.startswith("#"):
                flags += line if line.startswith("#,") else ""
                continue
            found = LINE.fullmatch(line)
            assert found, line
            keyword = found["keyword"]
            if keyword:
                texts = translations if keyword.startswith("msgstr") else originals
                texts.append("")
            texts[-1] += ast.literal_eval(found["text"])
        if originals and originals != [""]:
            entries.append(Entry(originals, translations, flags))
    return entries


def find_messages() -> set[Message]:
    """Return the messages of all modules and templates."""
    found: set[Message] = set()
    for path in PACKAGE.rglob("*.py"):
        found.update(find_in_module(path.read_text(encoding="utf-8")))
    for path in PACKAGE.rglob("*.html"):
        found.update(find_in_template(path.read_text(encoding="utf-8")))
    # A text that is used alone and with a plural has one entry.
    return found - {message[:1] for message in found if len(message) == 2}


def find_in_module(source: str) -> Iterator[Message]:
    """Yield the literal messages of calls of `_`, `gettext`, `ngettext_lazy` and the like."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            yield from message_of(function_of(node), node.args)


def function_of(call: ast.Call) -> str:
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


def message_of(function: str, arguments: list[ast.expr]) -> Iterator[Message]:
    plain = function.removesuffix("_lazy").removesuffix("_noop")
    count = {"_": 1, "gettext": 1, "ngettext": 2}.get(plain, 0)
    texts = [argument.value for argument in arguments[:count] if isinstance(argument, ast.Constant)]
    if count and len(texts) == count:
        yield tuple(map(str, texts))


def find_in_template(source: str) -> Iterator[Message]:
    """Yield the messages of `{% translate %}`, `{% blocktranslate %}` and `_(…)`."""
    for found in CALL.finditer(templatize(source)):
        texts = ast.literal_eval(f"({found['texts']},)")
        yield texts if found["function"] == "ngettext" else texts[:1]


# Writing.


def make_messages() -> list[Entry]:
    """Write both files of the catalogue, and return the entries that wait for a translation."""
    with NamedTemporaryFile("w", encoding="utf-8", suffix=".pot") as template:
        template.write(write_template(find_messages()))
        template.flush()
        merged = run("msgmerge", "--quiet", "--previous", "--no-wrap", str(CATALOGUE), template.name)
    text = tidy(run("msgattrib", "--no-obsolete", "--no-wrap", "-", given=merged))
    CATALOGUE.write_text(text, encoding="utf-8")
    run("msgfmt", "--check-format", "-o", str(CATALOGUE.with_suffix(".mo")), str(CATALOGUE))
    return [entry for entry in read_catalogue(text) if not entry.is_translated()]


def write_template(found: set[Message]) -> str:
    """Return the text of a .pot file: all messages, without translations."""
    header = 'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=UTF-8\\n"\n'
    return "\n".join([header, *map(write_entry, sorted(found))])


def write_entry(message: Message) -> str:
    flag = "#, python-format\n" if any(map(PLACE.search, message)) else ""
    texts = [f'"{text.translate(ESCAPES)}"\n' for text in message]
    if len(texts) == 1:
        return f'{flag}msgid {texts[0]}msgstr ""\n'
    return f'{flag}msgid {texts[0]}msgid_plural {texts[1]}msgstr[0] ""\nmsgstr[1] ""\n'


def tidy(text: str) -> str:
    """Return a .po file without dates, its entries sorted by message."""
    header, *blocks = DATE.sub("", text).strip().split("\n\n")
    return "\n\n".join([header, *sorted(blocks, key=lambda block: read_catalogue(block)[0].originals)]) + "\n"


def run(*command: str, given: str = "") -> str:
    return subprocess.run(command, input=given, stdout=subprocess.PIPE, encoding="utf-8", check=True).stdout


def main() -> int:
    if missing := [program for program in PROGRAMS if not shutil.which(program)]:
        print(f"`make messages` needs GNU gettext; missing: {', '.join(missing)}.", file=sys.stderr)
        print("Install it: apt-get install gettext, or brew install gettext.", file=sys.stderr)
        return 1
    waiting = make_messages()
    for entry in waiting:
        print(f"{'fuzzy' if all(entry.translations) else 'untranslated'}: {' | '.join(entry.originals)}")
    if waiting:
        print(f"Translate them in {CATALOGUE.relative_to(PACKAGE.parent)}, then run `make messages` again.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
