"""The measurement of classes and functions, and their limits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import sizes
from tests.sizes import Class, Function, Sizes


def function(lines: int, name: str = "f") -> Function:
    return Function(name, "a.py:1", lines)


def broken(*, classes: tuple[Class, ...] = (), functions: tuple[Function, ...] = (), entries: int = 1) -> list[str]:
    return list(Sizes(list(classes), list(functions), entries).find_broken())


def test_measures_classes_and_functions(tmp_path: Path):
    folder = tmp_path / "package"
    (folder / "migrations").mkdir(parents=True)
    (folder / "__pycache__").mkdir()
    (folder / "migrations" / "0001.py").write_text("class Migration:\n    pass\n")
    (folder / "a.py").write_text(
        "@decorated\n"
        "class A:\n"
        "    @property\n"
        "    def x(self):\n"
        '        """Return x."""\n'
        "        return 1\n"
        "\n"
        "    @x.setter\n"
        "    def x(self, value): ...\n"
        "\n"
        "    async def y(self):\n"
        "        def inner(): ...\n"
        "        return inner\n"
    )

    measured = sizes.measure(folder)

    assert measured.classes == [Class("A", "package/a.py:2", lines=12, methods=2)]
    assert measured.functions == [
        Function("x", "package/a.py:4", 3),
        Function("y", "package/a.py:11", 3),
        Function("x", "package/a.py:9", 1),
        Function("inner", "package/a.py:12", 1),
    ]
    assert measured.entries == 2


@pytest.mark.parametrize(
    ("name", "lines", "methods", "is_broken"),
    [
        ("Runner", 300, 25, False),
        ("Runner", 301, 25, True),
        ("Runner", 300, 26, True),
        ("Journal", 400, 30, False),
        ("Journal", 401, 30, True),
        ("Journal", 400, 31, True),
    ],
)
def test_limits_of_a_class(name: str, lines: int, methods: int, is_broken: bool):
    assert bool(broken(classes=(Class(name, "a.py:1", lines, methods),))) == is_broken


def test_limit_of_most_functions():
    assert not broken(functions=(*(function(10),) * 94, *(function(23),) * 6))
    assert broken(functions=(*(function(10),) * 94, *(function(24),) * 6)) == [
        "95 % of the functions have up to 24 lines; the limit is 23."
    ]


def test_limit_of_long_functions():
    short = (function(10),) * 100

    assert not broken(functions=(*short, function(41), function(99), function(40)))
    assert broken(functions=(*short, function(41), function(99), function(41))) == [
        "3 functions have more than 40 lines; the limit is 2 functions."
    ]


def test_limit_of_entries():
    assert not broken(entries=35)
    assert broken(entries=36) == ["The folder has 36 entries; the limit is 35."]


@pytest.mark.parametrize(("lines", "code"), [(300, 0), (301, 1)])
def test_command_fails_above_a_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str], lines: int, code: int):
    (tmp_path / "a.py").write_text("class A:\n" + "    x = 1\n" * (lines - 1))

    assert sizes.main([str(tmp_path)]) == code
    assert f"{lines}        0  {tmp_path.name}/a.py:1" in capsys.readouterr().out


def test_command_prints_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "a.py").write_text("def f():\n    pass\n")

    assert sizes.main([str(tmp_path), "--format", "json"]) == 0

    answer = json.loads(capsys.readouterr().out)
    assert answer["functions"] == [{"name": "f", "place": f"{tmp_path.name}/a.py:1", "lines": 2}]
    assert (answer["p50"], answer["p95"], answer["above_40"], answer["broken"]) == (2, 2, 0, [])


def test_the_package_keeps_the_limits():
    assert list(sizes.measure(sizes.ROOT / "bgtasks").find_broken()) == []
