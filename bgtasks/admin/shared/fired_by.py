"""The request that fired a task, from the JSON in its row. A client sent all of these texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from .formats import cut, printable

MAX_LENGTH = 500  # Characters.


@dataclass(frozen=True)
class FiredBy:
    line: str  # Method and path.
    user_id: str
    request_id: str


def read_fired_by(stored: Any) -> FiredBy:
    """Return the parts of a stored request, each empty if it is not known."""
    known = stored if isinstance(stored, dict) else {}
    user_id = known.get("user_id")
    return FiredBy(
        line=" ".join(printable(known[key]) for key in ("method", "path") if known.get(key)),
        user_id=printable(user_id) if user_id is not None else "",
        request_id=printable(known.get("request_id") or ""),
    )


def request_line(stored: Any) -> str:
    """
    Format a stored request on one line.

    >>> request_line({"method": "POST", "path": "/signup", "user_id": 7})
    'POST /signup · user 7'
    """
    request = read_fired_by(stored)
    user = _("user %(id)s") % {"id": request.user_id} if request.user_id else ""
    request_id = _("request %(id)s") % {"id": request.request_id} if request.request_id else ""
    return cut(" · ".join(filter(None, [request.line, user, request_id])), MAX_LENGTH).text
