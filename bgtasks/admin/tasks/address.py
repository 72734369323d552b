"""The parameters of the list's address: filters, which choose tasks, and others, which choose among the tasks found."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlencode

from django.http import HttpRequest

from ..shared.keyset_paginator import AFTER, BEFORE

UNTIL = "until"  # The newest id when an action was asked for. It does not apply to later tasks.
FORMAT = "format"  # Of an export.
NO_FILTERS = (BEFORE, AFTER, UNTIL, FORMAT)


def filters_in(request: HttpRequest) -> list[tuple[str, str]]:
    """Return the parameters of the address that choose tasks."""
    pairs = [(name, value) for name, values in request.GET.lists() for value in values]
    return [(name, value) for name, value in pairs if value and name not in NO_FILTERS]


def with_query(url: str, pairs: Sequence[tuple[str, str]]) -> str:
    return f"{url}?{urlencode(pairs)}" if pairs else url
