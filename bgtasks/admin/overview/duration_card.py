"""How long the tasks of a function take, as a histogram with its words: on the overview and on the functions' pages."""

from __future__ import annotations

from typing import Any

from ...definition import Task
from ...reports.rollups import Total
from ..pictures import durations
from ..shared.formats import duration


def describe_durations(total: Total, task: Task[..., Any] | None) -> dict[str, Any]:
    """
    Return what `histogram.html` shows of a total that has measured something.

    Args:
        task: the function, where this process knows it: for the line of its timeout.
    """
    picture = durations.draw(total.took, task.options.timeout if task is not None else None)
    longest = picture.bins[-1].longest
    if picture.timeout is not None:  # The scale reaches as far.
        longest = max(longest, picture.timeout.seconds)
    return {
        "picture": picture,
        "p50": duration(picture.p50.seconds) if picture.p50 else "–",
        "p95": duration(picture.p95.seconds) if picture.p95 else "–",
        "timeout": duration(picture.timeout.seconds) if picture.timeout else "",
        "shortest": duration(picture.bins[0].shortest),
        "longest": duration(longest),
    }
