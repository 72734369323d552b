"""The course of a number over the last hour: a sparkline with its texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.translation import gettext as _

from ..pictures import sparkline
from ..pictures.sparkline import Sparkline
from .formats import duration

LEAST_TOP = 0.05  # Least seconds at the upper edge, so that noise stays flat.


@dataclass(frozen=True)
class Course:
    label: str
    picture: Sparkline
    last: str
    note: str

    @property
    def text(self) -> str:
        return f"{self.label}: {self.last}, {self.note}"


def draw_seconds(label: str, values: Sequence[float | None]) -> Course:
    """Return the course of a length of time, in seconds, with the last and the longest one in words."""
    picture = sparkline.draw(values, LEAST_TOP)
    longest = max((value for value in values if value is not None), default=None)
    return Course(label, picture, duration(picture.last), _("longest %(time)s") % {"time": duration(longest)})
