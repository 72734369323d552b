"""The measuring of the project's English: which text is read, and which words in it count."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import language
from tests.language import Passage


def read(tmp_path: Path, file: str, text: str, name: str | None = None) -> list[Passage]:
    path = tmp_path / file
    path.write_text(text)
    return language.read(path, name or file)


def lines(passages: list[Passage]) -> list[tuple[str, int, str]]:
    """Return rule, line and text of each hit."""
    return [(hit.rule.name, hit.line, hit.text) for hit in language.find_all(passages)]


def words(passages: list[Passage], group: str) -> int:
    return language.count(passage for passage in passages if passage.group == group).words


def comment(text: str) -> list[Passage]:
    return [Passage("comments", "a.py", 1, text)]


# Rules.


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("Return what failed.", "what"),
        ("Whatever is left is written.", "what"),
        ("It shows What's new.", "what"),
        ("What is wrong today", "what"),
        ("Is it slow? It is what it is.", "what"),
        ("Tell the caller.", "tell"),
        ("as told by telling", "tell"),
        ("Nobody waits.", "somebody"),
        ("where no\none waits", "somebody"),
        ("whoever asks", "somebody"),
    ],
)
def test_word_counts(text: str, rule: str):
    assert language.count(comment(text)).hits[rule] >= 1


@pytest.mark.parametrize(
    "text",
    [
        "What did it fail with?",
        "It asks: (what is the answer?) Then it waits.",
        "A somewhat retold story of anyone.",
        "The argument `what` and the call ``tell(nobody)``.",
        "See https://example.org/what/nobody for more.",
    ],
)
def test_word_does_not_count(text: str):
    assert not language.count(comment(text)).hits


def test_rate_is_per_1000_words():
    counted = language.count(comment("what " + "word " * 499))

    assert counted.words == 500
    assert [counted.per_1000(rule) for rule in language.RULES] == [2, 0, 0]
    assert counted.broken() == []


def test_a_word_more_is_above_the_limit():
    counted = language.count(comment("what what " + "word " * 498))

    assert [rule.name for rule in counted.broken()] == ["what"]


def test_nothing_to_read_breaks_no_limit():
    assert language.count([]).broken() == []


# Texts.


def test_comments_and_docstrings_of_python(tmp_path: Path):
    passages = read(
        tmp_path,
        "a.py",
        '"""\nSays what it is.\n\n>>> tell("what")\n\'what nobody wrote\'\n\nThen goes on.\n"""\n\n'
        "# A comment of two lines,\n"
        "# and what it says.\n"
        "value = what(1)  # Told here.\n"
        "value = 2  # noqa: S101  # The reason.\n"
        "def tell():\n"
        '    """Return what counts."""\n',
    )

    assert lines(passages) == [
        ("what", 2, "Says what it is."),
        ("what", 11, "and what it says."),
        ("tell", 12, "Told here."),
        ("what", 15, '"""Return what counts."""'),
    ]
    assert words(passages, "comments") == 4 + 3 + 5 + 4 + 2 + 2 + 3


def test_messages_of_python(tmp_path: Path):
    passages = read(
        tmp_path,
        "a.py",
        'raise ValueError("Give it what it needs.")\n'
        'raise ValueError(f"{tell(nobody)} is not" f" what {name!r}"\n'
        '                 " needs.")\n'
        'short = "what else"\n'
        'query = "SELECT what FROM tell WHERE nobody"\n',
    )

    assert [(rule, line) for rule, line, _ in lines(passages)] == [("what", 1), ("what", 2)]
    assert words(passages, "messages") == 5 + 4


def test_strings_of_tests_and_migrations_are_no_messages(tmp_path: Path):
    text = 'text = "Nobody reads this one."\n'

    assert read(tmp_path, "a.py", text, "tests/unit/test_a.py") == []
    assert read(tmp_path, "a.py", text, "bgtasks/migrations/0001_initial.py") == []
    assert len(read(tmp_path, "a.py", text, "bgtasks/a.py")) == 1


def test_prose_of_markdown(tmp_path: Path):
    passages = read(
        tmp_path,
        "a.md",
        "# What it does\n\n```python\nwhat = nobody\n```\n\n    make what\n\n    tell nobody\n\n<!-- tests: tell -->\n"
        "- an item\n  and what follows,\n  with `code of\n  nobody` and [a link](what/nobody.md)\n",
    )

    assert lines(passages) == [("what", 1, "# What it does"), ("what", 13, "and what follows,")]
    assert words(passages, "pages") == 3 + 2 + 3 + 1 + 1 + 2


def test_code_in_a_list_of_markdown_is_left_out(tmp_path: Path):
    passages = read(tmp_path, "a.md", "1. An item:\n\n   ```python\n   what = `tell\n   ```\n\n2. And what follows.\n")

    assert lines(passages) == [("what", 7, "2. And what follows.")]
    assert words(passages, "pages") == 2 + 3


def test_a_single_backquote_hides_its_paragraph_only():
    assert language.count(comment("It is ` here\n\nand what ` there.")).hits["what"] == 1


def test_template_has_comments_and_texts(tmp_path: Path):
    passages = read(
        tmp_path,
        "a.html",
        '{# Shown to nobody. #}\n<p title="{% translate "What ran" %}" class="what">{{ what }}\n'
        "Nothing {% blocktranslate %}is told{% endblocktranslate %}</p>\n<script>tell(what)</script>",
    )

    assert [(rule, line) for rule, line, _ in lines(passages)] == [("somebody", 1), ("what", 2), ("tell", 3)]
    assert words(passages, "comments") == 3
    assert words(passages, "messages") == 2 + 3


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("a.js", "what(); // Tell it.\nconst told = 1;"),
        ("a.js", "/* Tell\n it. */"),
        ("a.css", ".what { color: red; /* Tell it. */ }"),
        ("Makefile", "what: ## Tell it.\n\t@tell"),
        ("a.toml", 'what = "https://what"  # Tell it.'),
    ],
)
def test_comments_of_other_files(tmp_path: Path, file: str, text: str):
    passages = read(tmp_path, file, text)

    assert [(rule, line) for rule, line, _ in lines(passages)] == [("tell", 1)]
    assert words(passages, "comments") == 2


def test_other_files_are_not_read(tmp_path: Path):
    assert read(tmp_path, "a.po", "# what") == []


# The command.


def test_table_is_by_room(tmp_path: Path):
    table = language.tabulate(
        [
            Passage("comments", "bgtasks/runtime/runner.py", 1, "one"),
            Passage("comments", "bgtasks/admin/tasks/page.py", 1, "one two"),
            Passage("comments", "bgtasks/api.py", 1, "one two three"),
            Passage("comments", "tests/unit/test_api.py", 1, "one"),
            Passage("pages", "README.md", 1, "one"),
        ]
    )

    assert {key: counted.words for key, counted in table.items()} == {
        ("comments", "bgtasks"): 3,
        ("comments", "bgtasks/admin"): 2,
        ("comments", "bgtasks/runtime"): 1,
        ("comments", "tests"): 1,
        ("comments", "all"): 7,
        ("pages", "README.md"): 1,
        ("pages", "all"): 1,
        ("messages", "all"): 0,
    }


def test_command_fails_above_a_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "bad.md"
    path.write_text("Fine.\n\nNobody was told what it does.\n")

    assert language.main([str(path), "--list"]) == 1

    output = capsys.readouterr().out
    assert f"{path}:3: [what] Nobody was told what it does.\n" in output
    assert "pages: 142.9 × “what” per 1,000 words; the limit is 2.\n" in output


def test_command_passes_below_the_limits(tmp_path: Path):
    path = tmp_path / "good.md"
    path.write_text("It returns the error.\n")

    assert language.main([str(path)]) == 0


def test_command_prints_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "bad.md"
    path.write_text("It is told.\n")

    assert language.main([str(path), "--list", "--format", "json"]) == 1

    answer = json.loads(capsys.readouterr().out)
    assert answer["limits"] == {"what": 2, "tell": 0.5, "somebody": 0.3}
    assert {"group": "pages", "place": "all", "words": 3, "what": 0, "tell": 333.33, "somebody": 0} in answer["rows"]
    assert answer["hits"] == [{"rule": "tell", "path": str(path), "line": 1, "text": "It is told."}]
    assert len(answer["broken"]) == 1


@pytest.fixture(scope="module")
def project() -> list[language.Passage]:
    return language.read_project()


def test_project_is_read(project: list[language.Passage]):
    paths = {passage.path for passage in project}

    assert {"bgtasks/api.py", "docs/index.md", "README.md", "Makefile", ".ci/run", "pyproject.toml"} <= paths


def test_the_project_keeps_the_limits(project: list[language.Passage]):
    """`python -m tests.language --list` lists the passages to rewrite."""
    assert language.find_broken(language.tabulate(project)) == []
