"""Reads the evidence after the server has stopped: its database, with plain SQL, and the logs of the receivers."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

from .ledger import Arrival, Kind, Row


def read_rows(database: Path) -> list[Row]:
    return [
        Row(
            task_id=str(UUID(row["id"])),
            name=row["name"],
            status=row["status"],
            history=tuple(step["status"] for step in json.loads(row["transitions"])),
        )
        for row in _select(database, "SELECT id, name, status, transitions FROM bgtasks_backgroundtask")
    ]


def read_process_states(database: Path) -> tuple[str, ...]:
    return tuple(row["state"] for row in _select(database, "SELECT state FROM bgtasks_process"))


def read_drains(database: Path) -> tuple[dict[str, int], ...]:
    numbers = "running_at_start, finished_count, cancelled_count, left_count"
    return tuple(dict(row) for row in _select(database, f"SELECT {numbers} FROM bgtasks_drain"))


def read_arrivals(kind: Kind, log: Path) -> list[Arrival]:
    """Return the arrivals that a receiver logged."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [Arrival(kind=kind, **json.loads(line)) for line in lines]


def read_reports(folder: Path) -> list[Arrival]:
    """Return an arrival for each written report, whose number is in the name of its file."""
    return [Arrival("report", "", path.stem.removeprefix("report-")) for path in sorted(folder.glob("report-*.csv"))]


def _select(database: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        return connection.execute(query).fetchall()
