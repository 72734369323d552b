"""The server and the memory of this process."""

from __future__ import annotations

import os
import sys
from pathlib import Path

SERVERS = ("uvicorn", "hypercorn", "granian", "daphne", "gunicorn")


def name_server() -> str:
    """Return the name of the server or command that this process runs: "uvicorn", "manage.py migrate", …."""
    program = Path(sys.argv[0] if sys.argv else "").name
    if program == "__main__.py":  # python -m uvicorn
        program = Path(sys.argv[0]).parent.name
    for name in SERVERS:
        if program.startswith(name):
            return name
    if program == "manage.py" or program == "django-admin":
        return " ".join([program, *sys.argv[1:2]])[:50]
    # A server may start its workers in processes of another name.
    return next((name for name in SERVERS if f"{name}.main" in sys.modules), program)[:50]


def is_server() -> bool:
    """Return whether this process is one of the known servers, by the name of its program."""
    return name_server() in SERVERS


def is_under_test() -> bool:
    """
    Return whether Django's test environment is set up.

    `mail.outbox` exists outside tests, too, if the project uses the mail backend that keeps mails in memory.
    """
    utils = sys.modules.get("django.test.utils")
    return utils is not None and hasattr(utils._TestState, "saved_data")


def read_memory() -> int | None:
    """Return the resident memory of this process in bytes, None where reading it takes long (all but Linux)."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None
