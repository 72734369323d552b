"""Reads a stored traceback, as Python writes it, back into frames. Pure: a text comes in, values go out."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..frames import is_project_file

MAX_FRAMES = 25  # Of the project's own, per exception; a deep recursion has hundreds.

_HEADER = "Traceback (most recent call last):"
_CAUSE = "The above exception was the direct cause of the following exception:"
_CONTEXT = "During handling of the above exception, another exception occurred:"
_FRAME = re.compile(r'  File "(?P<file>.*)", line (?P<line>\d{1,9})(?:, in (?P<function>.*))?')
_CUT = re.compile(r"… \d+ characters left out …")  # Written into the middle of a traceback that is too long to store.
_GROUP = re.compile(r"^  (\+ Exception Group Traceback|\| )", re.MULTILINE)


@dataclass(frozen=True)
class Frame:
    file: str
    line: int
    function: str
    code: str  # The lines as written, without their indentation; empty where the source was not at hand.
    is_project: bool

    @property
    def folder(self) -> str:
        return self.file[: -len(self.base)] if self.base else self.file

    @property
    def base(self) -> str:
        return re.split(r"[/\\]", self.file)[-1]


@dataclass(frozen=True)
class Raised:
    """One exception of a chain."""

    error: str  # Its last lines: type, message and notes.
    frames: tuple[Frame, ...]  # The place that raised it first.
    is_cause: bool = False  # Whether the exception that came after it was raised `from` it.

    @property
    def project_frames(self) -> list[Frame]:
        return [frame for frame in self.frames if frame.is_project][:MAX_FRAMES]

    @property
    def raised_in(self) -> Frame | None:
        """Where it was raised, if that is in a library."""
        return self.frames[0] if self.frames and not self.frames[0].is_project else None


def read_traceback(text: str) -> list[Raised]:
    """
    Return the exceptions of a traceback, the last raised first; none for what cannot be read as one.

    Exception groups are trees, which their own text shows best: they are not read either.

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
    for line in text.split("\n"):  # `splitlines` knows separators that a message may hold.
        if line == _HEADER:
            chain.append(_Reader())
        elif chain:
            chain[-1].read(line)
    raised = [reader.finish() for reader in reversed(chain)]
    return raised if any(each.frames for each in raised) else []


class _Reader:
    """Gathers the lines of one exception."""

    def __init__(self) -> None:
        self.found: list[tuple[re.Match[str], list[str]]] = []
        self.error: list[str] = []
        self.is_cause = False
        self.is_after_cut = False  # Half a line may follow.

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
