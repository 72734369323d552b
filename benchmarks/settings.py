"""Settings of the benchmarks: the database that the environment asks for, as in the tests, and BGTASKS by default."""

from __future__ import annotations

import os

from tests.settings import *  # noqa: F403  # Apps, database, templates.

BGTASKS: dict[str, object] = {}
ROOT_URLCONF = "benchmarks.urls"
if os.environ.get("BENCHMARKS_NO_MIDDLEWARE"):  # A bare view: with middleware firing would seem to cost less.
    MIDDLEWARE: list[str] = []
