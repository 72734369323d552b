"""Pieces of Python that run in a process of their own, as scripts of a project do."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from tests import databases
from tests.servers import ROOT

PREAMBLE = """
import asyncio, os, sys, threading, time
import django
django.setup()
import bgtasks
from tests.app import tasks
from tests.waiting import stays, wait_for
"""


class Program:
    """Runs a piece of Python on a migrated database, and reads the rows it leaves."""

    def __init__(self, folder: Path, database: str) -> None:
        self.folder = folder
        self.database = database

    def run(self, code: str, status: int = 0, **environment: str) -> str:
        answer = subprocess.run(
            [sys.executable, "-X", "dev", "-c", PREAMBLE + textwrap.dedent(code)],
            cwd=ROOT,
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "tests.settings",
                "TESTS_DB_DIR": str(self.folder),
                "TESTS_DB_NAME": self.database,
                "FOLDER": str(self.folder),
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert answer.returncode == status, answer.stderr
        assert "Task was destroyed" not in answer.stderr
        assert "never awaited" not in answer.stderr
        return answer.stdout

    def query(self, statement: str) -> list[dict[str, Any]]:
        return databases.query(self.database, statement)

    def statuses(self) -> list[str]:
        return [row["status"] for row in self.query("SELECT status FROM bgtasks_backgroundtask ORDER BY id")]
