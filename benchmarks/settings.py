"""Settings of the benchmarks: a database by the environment, as in the tests, and the defaults of BGTASKS."""

from __future__ import annotations

import os

from tests.settings import *  # noqa: F403  # Apps, database, templates.

BGTASKS: dict[str, object] = {}
ROOT_URLCONF = "benchmarks.urls"
if os.environ.get("BENCHMARKS_NO_MIDDLEWARE"):  # A bare view: beside middleware, firing would seem to cost less.
    MIDDLEWARE: list[str] = []
