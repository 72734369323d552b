"""Parses a stored traceback, in the format of Python, into frames. It takes a text and returns values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby

from ...frames import is_project_file
from ..shared.formats import join_names

MAX_FRAMES = 25  # In one run of frames; a deep recursion has hundreds.
MAX_FRAME_RUNS = 20  # Of one exception.
MAX_CHAIN = 10  # Exceptions.
MAX_LIBRARIES = 3  # Names of them in one line.

HEADER = "Traceback (most recent call last):"
_CAUSE = "The above exception was the direct cause of the following exception:"
_CONTEXT = "During handling of the above exception, another exception occurred:"
_FRAME = re.compile(r'  File "(?P<file>.*)", line (?P<line>\d{1,9})(?:, in (?P<function>.*))?')
_CUT = re.compile(r"… \d+ characters left out …")  # In the middle of a traceback that was too long to store.
_PACKAGE = re.compile(r"[/\\](?:site|dist)-packages[/\\]([^/\\]+)")
_GROUP = re.compile(r"^  (\+ Exception Group Traceback|\| )", re.MULTILINE)


@dataclass(frozen=True)
class Frame:
    file: str
    line: int
    function: str
    code: str  # The lines of source code without their indentation; empty if they were not available.
    is_project: bool

    @property
    def folder(self) -> str:
        return self.file[: -len(self.base)] if self.base else self.file

    @property
    def base(self) -> str:
        return re.split(r"[/\\]", self.file)[-1]

    @property
    def library(self) -> str:
        """
        The package of the frame, or its module of the standard library.

        >>> [Frame(file, 1, "", "", False).library for file in ("/v/site-packages/httpx/_client.py", "/lib/smtplib.py")]
        ['httpx', 'smtplib']
        """
        package = _PACKAGE.search(self.file)
        return (package[1] if package else self.base).removesuffix(".py")


@dataclass(frozen=True)
class FrameRun:
    """Consecutive frames, all of the project or all of libraries."""

    frames: tuple[Frame, ...]
    is_project: bool
    hidden_count: int = 0

    @property
    def count(self) -> int:
        return len(self.frames) + self.hidden_count

    @property
    def libraries(self) -> str:
        names = list(dict.fromkeys(frame.library for frame in self.frames))
        return join_names(names, MAX_LIBRARIES)


@dataclass(frozen=True)
class Raised:
    """One exception of a chain."""

    error: str  # Its last lines: type, message and notes.
    frames: tuple[Frame, ...]  # Innermost first.
    is_cause: bool = False  # Whether the next exception was raised `from` it.

    @property
    def project_frames(self) -> list[Frame]:
        return [frame for frame in self.frames if frame.is_project][:MAX_FRAMES]

    @property
    def frame_runs(self) -> list[FrameRun]:
        """The frames in runs, which a page folds or unfolds."""
        found = [
            _frame_run(tuple(frames), own) for own, frames in groupby(self.frames, key=lambda frame: frame.is_project)
        ]
        return found[:MAX_FRAME_RUNS]

    @property
    def raised_in(self) -> Frame | None:
        """The innermost frame, if it is in a library."""
        return self.frames[0] if self.frames and not self.frames[0].is_project else None


def _frame_run(frames: tuple[Frame, ...], is_project: bool) -> FrameRun:
    return FrameRun(frames[:MAX_FRAMES], is_project, max(len(frames) - MAX_FRAMES, 0))


def read_traceback(text: str) -> list[Raised]:
    """
    Return the exceptions of a traceback, last raised first; an empty list if the text is not a traceback.

    Exception groups are not parsed: they are trees, and their own text shows them best.

    >>> [raised] = read_traceback('''Traceback (most recent call last):
    ...   File "/srv/shop/tasks.py", line 4, in send
    ...     smtp.connect()
    ...   File "/usr/lib/python3.11/smtplib.py", line 341, in connect
    ... ConnectionRefusedError: [Errno 111] Connection refused
    ... ''')
    >>> raised.error, [frame.function for frame in raised.project_frames]
    ('ConnectionRefusedError: [Errno 111] Connection refused', ['send'])
    """
    if _GROUP.search(text):
        return []
    chain: list[_Reader] = []
    for line in text.split("\n"):  # `splitlines` also splits at separators within a message.
        if line == HEADER:
            chain.append(_Reader())
        elif chain:
            chain[-1].read(line)
    raised = [reader.finish() for reader in reversed(chain)][:MAX_CHAIN]
    return raised if any(each.frames for each in raised) else []


class _Reader:
    """Gathers the lines of one exception."""

    def __init__(self) -> None:
        self.found: list[tuple[re.Match[str], list[str]]] = []
        self.error: list[str] = []
        self.is_cause = False
        self.is_after_cut = False  # Then the rest of a line may follow.

    def read(self, line: str) -> None:
        if line in (_CAUSE, _CONTEXT):
            self.is_cause = line == _CAUSE
        elif self.error:
            self.error.append(line)
        elif match := _FRAME.fullmatch(line):
            self.found.append((match, []))
            self.is_after_cut = False
        elif self.is_after_cut or _CUT.fullmatch(line):
            self.is_after_cut = True
        elif self.found and line.startswith("  "):  # Its code, or "[Previous line repeated 990 more times]".
            self.found[-1][1].append(line.removeprefix("    "))
        elif line:
            self.error.append(line)

    def finish(self) -> Raised:
        frames = tuple(
            Frame(
                file=match["file"],
                line=int(match["line"]),
                function=match["function"] or "",
                code="\n".join(code),
                is_project=is_project_file(match["file"]),
            )
            for match, code in reversed(self.found)
        )
        return Raised(error="\n".join(self.error).strip(), frames=frames, is_cause=self.is_cause)
