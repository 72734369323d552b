"""Errors of statements: a process without a valid row, and a missing table."""

from __future__ import annotations


class Disowned(Exception):
    """The row of this process is missing or says that it is dead: the process must go on under another id."""


def is_missing_table(error: Exception) -> bool:
    """Return whether a table is missing since the migrations have not been run."""
    # PostgreSQL and MariaDB have a code for it, SQLite has a text.
    has_code = getattr(error.__cause__, "sqlstate", None) == "42P01" or error.args[:1] == (1146,)
    return has_code or "no such table" in str(error)
