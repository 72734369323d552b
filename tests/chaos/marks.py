"""
Marks: the starts and ends of tasks, in a file outside the database.

A mark is one line in one write, appended by the kernel: no kill can cut it in two.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import bgtasks

START, END = "start", "end"


@dataclass(frozen=True)
class Mark:
    """Attempt `attempt` of the task `id` started or ended in process `pid`."""

    at: float  # Seconds since the epoch.
    what: str
    id: str
    attempt: int
    pid: int
    kind: str  # The short name of the task function.
    tag: str  # The name that its request gave it.


@contextmanager
def marked(path: Path, kind: str, tag: str) -> Iterator[None]:
    """Mark the start of the current attempt, and its end if it is reached."""
    current = bgtasks.current()
    rest = f"{current.id} {current.attempt} {os.getpid()} {kind} {tag}"
    append(path, f"{time.time():.6f} {START} {rest}")
    yield
    append(path, f"{time.time():.6f} {END} {rest}")


def append(path: Path, line: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)


def read_marks(path: Path) -> list[Mark]:
    marks = []
    for line in path.read_text().splitlines():
        at, what, id_, attempt, pid, kind, tag = line.split(" ")
        marks.append(Mark(float(at), what, id_, int(attempt), int(pid), kind, tag))
    return marks
