"""Stored tracebacks as the admin shows them."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

import pytest

import bgtasks
from bgtasks.admin.tasks.traceback import MAX_FRAMES, read_traceback
from bgtasks.frames import is_project_file

HEADER = "Traceback (most recent call last):\n"


@pytest.mark.parametrize(
    "file",
    [
        "/srv/shop/orders/tasks.py",
        "tasks.py",
        r"C:\shop\orders\tasks.py",
        "/home/ann/python/shop/tasks.py",
        "/srv/bgtasks_project/tasks.py",
        f"{Path(bgtasks.__file__).parent}_project/tasks.py",
    ],
)
def test_file_of_the_project(file):
    assert is_project_file(file)


@pytest.mark.parametrize(
    "file",
    [
        "/srv/shop/.venv/lib/python3.11/site-packages/django/db/models/query.py",
        "/usr/lib/python3/dist-packages/requests/api.py",
        "/usr/lib/python3.11/asyncio/tasks.py",
        "/usr/local/lib64/python3.13/json/decoder.py",
        r"C:\Python311\Lib\asyncio\tasks.py",
        "<frozen importlib._bootstrap>",
        "<string>",
        traceback.__file__,
        f"{Path(bgtasks.__file__).parent}/runtime/attempt.py",
    ],
)
def test_file_of_a_library(file):
    assert not is_project_file(file)


def test_reads_what_python_writes():
    try:
        try:
            int("x")
        except ValueError as error:
            error.add_note("a note")
            raise RuntimeError("first line\nsecond line") from error
    except RuntimeError as error:
        text = "".join(traceback.format_exception(error))

    last, first = read_traceback(text)

    assert last.error == "RuntimeError: first line\nsecond line"
    assert first.error.splitlines()[-1] == "a note"
    assert first.is_cause
    [frame] = last.project_frames
    assert (frame.base, frame.function) == (Path(__file__).name, "test_reads_what_python_writes")
    assert 'raise RuntimeError("first line' in frame.code


def test_context_is_not_a_cause():
    text = (
        f'{HEADER}  File "a.py", line 1, in a\nKeyError: 1\n\n'
        f"During handling of the above exception, another exception occurred:\n\n"
        f'{HEADER}  File "b.py", line 2, in b\nValueError\n'
    )

    last, first = read_traceback(text)

    assert (last.error, first.error, first.is_cause) == ("ValueError", "KeyError: 1", False)


def test_last_call_comes_first_and_library_that_raised_is_named():
    text = (
        f'{HEADER}  File "/srv/a.py", line 1, in outer\n    inner()\n  File "/srv/a.py", line 2, in inner\n'
        '  File "/usr/lib/python3.11/json/decoder.py", line 355, in raw_decode\nValueError: no\n'
    )

    [raised] = read_traceback(text)

    assert [frame.function for frame in raised.project_frames] == ["inner", "outer"]
    assert raised.raised_in.function == "raw_decode"


def test_repeated_lines_of_a_recursion_stay_with_their_frame():
    repeated = "  [Previous line repeated 990 more times]\n"
    text = f'{HEADER}  File "/srv/a.py", line 1, in f\n    f()\n{repeated}RecursionError\n'

    [raised] = read_traceback(text)

    assert "repeated 990 more" in raised.project_frames[0].code


def test_hundreds_of_frames_are_bounded():
    frames = "".join(f'  File "/srv/a.py", line {n}, in f{n}\n' for n in range(500))

    [raised] = read_traceback(f"{HEADER}{frames}RecursionError\n")

    assert len(raised.project_frames) == MAX_FRAMES
    assert raised.project_frames[0].function == "f499"


def test_traceback_with_its_middle_left_out():
    """The runtime keeps both ends of a long traceback, and cuts within lines."""
    text = (
        f'{HEADER}  File "/srv/a.py", line 1, in a\n  File "/srv/a\n… 999 characters left out …\n.py", line 4, in x\n'
        '  File "/srv/b.py", line 2, in b\nValueError: no\n'
    )

    [raised] = read_traceback(text)

    assert [frame.function for frame in raised.project_frames] == ["b", "a"]
    assert raised.error == "ValueError: no"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nothing of the kind",
        HEADER,
        f"{HEADER}ValueError: no frames\n",
        "\x00" * 10,
        "  File " * 1000,
        '  File "a", line 99999999999999999999, in x\n' * 3,
    ],
)
def test_what_cannot_be_read_is_left_as_it_is(text):
    assert read_traceback(text) == []


def test_exception_group_is_left_as_it_is():
    try:
        raise ExceptionGroup("two", [ValueError(1), KeyError(2)])
    except ExceptionGroup as error:
        text = "".join(traceback.format_exception(error))

    assert read_traceback(text) == []


def test_syntax_error_keeps_its_place():
    try:
        compile("a b", "/srv/x.py", "exec")
    except SyntaxError:
        text = "".join(traceback.format_exception(*sys.exc_info()))

    [raised] = read_traceback(text)

    assert raised.error.endswith("SyntaxError: invalid syntax")
