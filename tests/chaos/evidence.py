"""The evidence of a round from all its sources, as plain values that a folder can hold."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .marks import Mark, read_marks

Final = tuple[str, int, str]  # Status, attempt and finished_at of a finished row.


@dataclass(frozen=True)
class Fired:
    """The answer to the request that fired a task."""

    tag: str
    name: str
    mode: str  # "afire", "fire", "object" (by `fire`), "commit" (in a transaction), "rollback".
    outcome: str  # "acknowledged", "refused" (neither recorded nor started), "unknown" (no answer).
    id: str | None
    pid: int  # Of the server that got the request.
    at: float


@dataclass(frozen=True)
class Row:
    id: str
    name: str
    tag: str  # Its first argument; "" for a coroutine object.
    status: str
    on_lost: str
    attempt: int
    max_attempts: int
    finished_at: str
    error_type: str
    transitions: list[dict[str, Any]]

    @property
    def changes(self) -> list[dict[str, Any]]:
        """The history without notes, which repeat the status before them."""
        followed = zip([None, *self.transitions], self.transitions, strict=False)
        return [entry for previous, entry in followed if not (previous and is_note(previous, entry))]

    @property
    def final(self) -> Final:
        return self.status, self.attempt, self.finished_at


def is_note(previous: dict[str, Any], entry: dict[str, Any]) -> bool:
    return all(previous[key] == entry[key] for key in ("status", "attempt"))


@dataclass(frozen=True)
class Process:
    id: str
    pid: int
    state: str
    stopped_at: float | None


@dataclass(frozen=True)
class Fate:
    """The end of a server, and the acts against it."""

    pid: int
    ended_at: float | None
    code: int | None
    acts: list[tuple[float, str]]

    @property
    def was_killed(self) -> bool:
        """Whether it ended without a drain: a drained server exits with 0, or by SIGTERM."""
        return self.ended_at is not None and self.code not in (0, -15)


@dataclass
class Evidence:
    fired: list[Fired] = field(default_factory=list)
    cancelled: set[str] = field(default_factory=set)  # Ids of tasks whose cancellation was requested.
    marks: list[Mark] = field(default_factory=list)
    rows: dict[str, Row] = field(default_factory=dict)
    processes: list[Process] = field(default_factory=list)
    fates: dict[int, Fate] = field(default_factory=dict)
    finals: dict[str, Final] = field(default_factory=dict)  # By row: when it was first seen finished.
    outages: list[tuple[float, float]] = field(default_factory=list)  # Of the database: begin and end of each.

    def save(self, folder: Path) -> None:
        """Write all except the marks, which are a file already."""
        _write(folder / "fired.jsonl", self.fired)
        _write(folder / "rows.jsonl", self.rows.values())
        _write(folder / "processes.jsonl", self.processes)
        _write(folder / "fates.jsonl", self.fates.values())
        (folder / "cancelled.json").write_text(json.dumps(sorted(self.cancelled)))
        (folder / "finals.json").write_text(json.dumps(self.finals))
        (folder / "outages.json").write_text(json.dumps(self.outages))


def load(folder: Path) -> Evidence:
    """Read the files of `Evidence.save`, and the marks."""
    finals = json.loads((folder / "finals.json").read_text())
    return Evidence(
        fired=[Fired(**values) for values in _read(folder / "fired.jsonl")],
        cancelled=set(json.loads((folder / "cancelled.json").read_text())),
        marks=read_marks(folder / "marks.txt"),
        rows={values["id"]: Row(**values) for values in _read(folder / "rows.jsonl")},
        processes=[Process(**values) for values in _read(folder / "processes.jsonl")],
        fates={values["pid"]: Fate(**values) for values in _read(folder / "fates.jsonl")},
        outages=[(began, ended) for began, ended in json.loads((folder / "outages.json").read_text())],
        finals={id_: (final[0], final[1], final[2]) for id_, final in finals.items()},
    )


def _write(path: Path, values: Iterable[Any]) -> None:
    path.write_text("".join(json.dumps(dataclasses.asdict(value)) + "\n" for value in values))


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
