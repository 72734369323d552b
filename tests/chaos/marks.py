"""
Marks: what tasks really did, told by a file outside the database that no kill can cut in two.

Any task may write them. A mark is one line and one write, appended by the kernel: it is there as a whole or not at all.
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
    kind: str  # What the task does: its function's short name.
    tag: str  # What whoever fired it calls it.


@contextmanager
def marked(path: Path, kind: str, tag: str) -> Iterator[None]:
    """Mark the start of the current attempt, and its end if it comes to it."""
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
