"""Imports before Django is set up, in a Python process of their own."""

from __future__ import annotations

import os
import subprocess
import sys

BEFORE_DJANGO_IS_SET_UP = [
    "bgtasks",
    "bgtasks.definition",
    "bgtasks.exceptions",
    "bgtasks.lifespan",
    "bgtasks.middleware",
    "bgtasks.pytest_plugin",
    "bgtasks.signals",
    "bgtasks.status",
    "bgtasks.uuid7",
]


def test_paths_that_are_imported_before_django_is_set_up() -> None:
    """`asgi.py`, the pytest plugin and a project's task modules import them that early."""
    imports = ";".join(f"import {path}" for path in BEFORE_DJANGO_IS_SET_UP)
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}

    answer = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"{imports}; from django.apps import apps; print(apps.ready)"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (answer.stdout, answer.stderr) == ("False\n", "")
