"""The German of the admin is whole, fits its English, and is compiled."""

from __future__ import annotations

import ast
import gettext
import re
from pathlib import Path
from typing import NamedTuple

import pytest
from django.utils import translation

import bgtasks
from bgtasks.models import Overview

DIRECTORY = Path(bgtasks.__file__).parent / "locale" / "de" / "LC_MESSAGES"
LINE = re.compile(r'(?:(?P<keyword>msg\w+(?:\[\d\])?) )?(?P<text>".*")')
# What has to stand in a translation as it stands in the original: places of values, and markup.
FIXED = re.compile(r"%\(\w+\)\w|%%|</?\w+>")


class Entry(NamedTuple):
    originals: list[str]  # One, or singular and plural.
    translations: list[str]
    flags: str


def read(text: str) -> list[Entry]:
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


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    return read((DIRECTORY / "django.po").read_text(encoding="utf-8"))


def test_reading() -> None:
    text = (
        'msgid ""\nmsgstr ""\n"Language: de\\n"\n\n'
        '#, fuzzy\nmsgid ""\n"a \\"quoted\\" "\n"word"\nmsgstr "x"\n\n'
        'msgid "one"\nmsgid_plural "many"\nmsgstr[0] "eins"\nmsgstr[1] ""\n\n'
        '#~ msgid "gone"\n#~ msgstr "weg"\n'
    )

    assert read(text) == [Entry(['a "quoted" word'], ["x"], "#, fuzzy"), Entry(["one", "many"], ["eins", ""], "")]


def test_every_message_is_translated(entries: list[Entry]) -> None:
    assert len(entries) > 600
    assert [entry for entry in entries if not all(entry.translations) or "fuzzy" in entry.flags] == []
    assert [entry for entry in entries if len(entry.originals) != len(entry.translations)] == []


def test_translations_have_the_places_and_the_markup_of_their_originals(entries: list[Entry]) -> None:
    pairs = [pair for entry in entries for pair in zip(entry.originals, entry.translations, strict=True)]

    assert [pair for pair in pairs if sorted(FIXED.findall(pair[0])) != sorted(FIXED.findall(pair[1]))] == []


def test_what_is_compiled_is_what_is_written(entries: list[Entry]) -> None:
    written: dict[object, str] = {}
    for entry in entries:
        if len(entry.originals) == 1:
            written[entry.originals[0]] = entry.translations[0]
        else:
            written |= {(entry.originals[0], number): text for number, text in enumerate(entry.translations)}

    with (DIRECTORY / "django.mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]  # It offers no list of them.

    assert {key: text for key, text in compiled.items() if key} == written, "Run `django-admin compilemessages`."


def test_django_finds_them() -> None:
    with translation.override("de"):
        assert str(Overview._meta.verbose_name) == "Überblick"
    with translation.override("en"):
        assert str(Overview._meta.verbose_name) == "overview"
