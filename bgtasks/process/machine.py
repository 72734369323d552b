"""What a process says of itself: its server and its memory."""

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
    """Tell whether this process serves requests, as far as can be seen from outside."""
    return name_server() in SERVERS


def is_under_test() -> bool:
    """
    Tell whether Django's test environment is set up.

    `mail.outbox` would say so outside tests too: the backend that keeps mails in memory makes it.
    """
    utils = sys.modules.get("django.test.utils")
    return utils is not None and hasattr(utils._TestState, "saved_data")


def read_memory() -> int | None:
    """Return the resident memory of this process in bytes, where the system tells it cheaply (Linux), else None."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None
