"""The German catalogue has a translation of each message in the source, fits its English, and is compiled."""

from __future__ import annotations

import gettext
import re

import pytest
from django.utils import translation

from bgtasks.models import Overview
from tests import messages
from tests.messages import Entry

# A translation repeats these parts of its original: the places of values, and markup.
FIXED = re.compile(r"%\(\w+\)\w|%%|</?\w+>")


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    return messages.read_catalogue(messages.CATALOGUE.read_text(encoding="utf-8"))


def test_reading() -> None:
    text = (
        'msgid ""\nmsgstr ""\n"Language: de\\n"\n\n'
        '#, fuzzy\nmsgid ""\n"a \\"quoted\\" "\n"word"\nmsgstr "x"\n\n'
        'msgid "one"\nmsgid_plural "many"\nmsgstr[0] "eins"\nmsgstr[1] ""\n\n'
        '#~ msgid "gone"\n#~ msgstr "weg"\n'
    )

    assert messages.read_catalogue(text) == [
        Entry(['a "quoted" word'], ["x"], "#, fuzzy"),
        Entry(["one", "many"], ["eins", ""], ""),
    ]


def test_every_message_is_translated(entries: list[Entry]) -> None:
    assert len(entries) > 600
    assert [entry for entry in entries if not all(entry.translations) or "fuzzy" in entry.flags] == []
    assert [entry for entry in entries if len(entry.originals) != len(entry.translations)] == []


def test_catalogue_has_each_message_of_the_source(entries: list[Entry]) -> None:
    source = messages.find_messages()
    written = {tuple(entry.originals) for entry in entries}

    assert source - written == set(), "Run `make messages`, and translate these."
    assert written - source == set(), "Run `make messages`, which drops these."


def test_catalogue_is_as_make_messages_writes_it() -> None:
    text = messages.CATALOGUE.read_text(encoding="utf-8")

    assert text == messages.tidy(text), "Run `make messages`."


def test_messages_of_a_module() -> None:
    source = (
        'text = _("one" " message")\n'
        'text = translation.gettext_lazy("two")\n'
        'NAMES = [gettext_noop("three"), gettext(f"{name}"), other("no"), _(variable)]\n'
        """text = f"{_('four')}"\n"""
        'text = ngettext_lazy("%(count)s task", "%(count)s tasks", "count") % {}\n'
    )

    assert set(messages.find_in_module(source)) == {
        ("one message",),
        ("two",),
        ("three",),
        ("four",),
        ("%(count)s task", "%(count)s tasks"),
    }


def test_messages_of_a_template() -> None:
    source = (
        """{% load i18n %}<p title="{% translate "It's one" %}">{{ value|default:_("two") }}</p>"""
        "{% blocktranslate with name=task.name trimmed %}\n  three of\n  {{ name }}: 100 %\n{% endblocktranslate %}"
        "{% blocktranslate count count=number %}{{ count }} task{% plural %}{{ count }} tasks{% endblocktranslate %}"
        "{# _('four') #}"
    )

    assert list(messages.find_in_template(source)) == [
        ("It's one",),
        ("two",),
        ("three of %(name)s: 100 %%",),
        ("%(count)s task", "%(count)s tasks"),
    ]


def test_template_has_each_message_untranslated() -> None:
    text = messages.write_template({("b %(name)s",), ('a "quoted"\nline',), ("one", "many")})

    assert messages.read_catalogue(text) == [
        Entry(['a "quoted"\nline'], [""], ""),
        Entry(["b %(name)s"], [""], "#, python-format"),
        Entry(["one", "many"], ["", ""], ""),
    ]


def test_tidying_sorts_and_drops_dates() -> None:
    header = (
        '# A comment.\nmsgid ""\nmsgstr ""\n"POT-Creation-Date: 2026\\n"\n"Language: de\\n"\n"PO-Revision-Date: \\n"'
    )

    assert messages.tidy(f'{header}\n\nmsgid "b"\nmsgstr "B"\n\n#, fuzzy\nmsgid "a"\nmsgstr "A"\n') == (
        '# A comment.\nmsgid ""\nmsgstr ""\n"Language: de\\n"\n\n'
        '#, fuzzy\nmsgid "a"\nmsgstr "A"\n\nmsgid "b"\nmsgstr "B"\n'
    )


def test_translations_have_the_places_and_the_markup_of_their_originals(entries: list[Entry]) -> None:
    pairs = [pair for entry in entries for pair in zip(entry.originals, entry.translations, strict=True)]

    assert [pair for pair in pairs if sorted(FIXED.findall(pair[0])) != sorted(FIXED.findall(pair[1]))] == []


def test_compiled_catalogue_is_the_written_one(entries: list[Entry]) -> None:
    written: dict[object, str] = {}
    for entry in entries:
        if len(entry.originals) == 1:
            written[entry.originals[0]] = entry.translations[0]
        else:
            written |= {(entry.originals[0], number): text for number, text in enumerate(entry.translations)}

    with messages.CATALOGUE.with_suffix(".mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]  # It has no public list.

    assert {key: text for key, text in compiled.items() if key} == written, "Run `make messages`."


def test_django_finds_them() -> None:
    with translation.override("de"):
        assert str(Overview._meta.verbose_name) == "Überblick"
    with translation.override("en"):
        assert str(Overview._meta.verbose_name) == "overview"
