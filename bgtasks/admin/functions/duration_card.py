"""The durations of a function's tasks as a histogram with texts, on the overview and on the pages of functions."""

from __future__ import annotations

from typing import Any

from ...definition import Task
from ...reports.rollups import Total
from ..pictures import durations
from ..shared.formats import duration


def describe_durations(total: Total, task: Task[..., Any] | None) -> dict[str, Any]:
    """
    Return the values for `histogram.html` of a total that has measured durations.

    Args:
        task: the function, for the line of its timeout; None if this process does not know it.
    """
    picture = durations.draw(total.took, task.options.timeout if task is not None else None)
    longest = picture.bins[-1].longest
    if picture.timeout is not None:  # The scale includes it.
        longest = max(longest, picture.timeout.seconds)
    return {
        "picture": picture,
        "p50": duration(picture.p50.seconds) if picture.p50 else "–",
        "p95": duration(picture.p95.seconds) if picture.p95 else "–",
        "timeout": duration(picture.timeout.seconds) if picture.timeout else "",
        "shortest": duration(picture.bins[0].shortest),
        "longest": duration(longest),
    }
