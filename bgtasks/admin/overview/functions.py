"""The task functions on the overview: the number of their failures, and the durations of their tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ...definition import declared
from ...reports.rollups import Total
from ...status import UNSUCCESSFUL
from ..functions.duration_card import describe_durations
from ..shared.formats import split_name
from ..shared.recent_totals import WINDOWS
from .readings import Readings

if TYPE_CHECKING:
    from ..shared.base import ReadOnlyAdmin

MAX_FUNCTIONS = 12


def describe_failures(admin: ReadOnlyAdmin, readings: Readings) -> Iterator[dict[str, Any]]:
    """Yield a line for each function with failures: their number in each window, most in the longest window first."""
    counts: dict[str, list[int]] = {}
    for index, (_label, length, _value) in enumerate(WINDOWS):
        for name, total in readings.totals[length].items():
            failed = sum(total.statuses[status] for status in UNSUCCESSFUL)
            if failed:
                counts.setdefault(name, [0] * len(WINDOWS))[index] = failed
    ranked = sorted(counts.items(), key=lambda item: item[1][::-1], reverse=True)
    for name, numbers in ranked[:MAX_FUNCTIONS]:
        module, function = split_name(name)
        yield {
            "module": module,
            "function": function,
            "url": admin.tasks_url(show="failed", name=name),
            "cells": [
                {"count": count, "url": admin.tasks_url(show="failed", name=name, fired=value) if count else ""}
                for count, (_label, _length, value) in zip(numbers, WINDOWS, strict=True)
            ],
        }


def describe_functions(admin: ReadOnlyAdmin, totals: Mapping[str, Total]) -> Iterator[dict[str, Any]]:
    """Yield the histogram of each function, most tasks first."""
    ranked = sorted(totals.items(), key=lambda item: item[1].measured, reverse=True)
    for name, total in ranked[:MAX_FUNCTIONS]:
        if not total.measured:
            continue
        module, function = split_name(name)
        yield {
            "module": module,
            "function": function,
            "url": admin.tasks_url(name=name),
            **describe_durations(total, declared.get(name)),
        }
