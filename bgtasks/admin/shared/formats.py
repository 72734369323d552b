"""Formats values for the pages. A row may hold any value, so no function here may raise an error or return HTML."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.core.serializers.json import DjangoJSONEncoder
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.translation import gettext as _

from ...status import Status

MAX_SHOWN = 20_000  # Characters of one value on a page.
MAX_ON_ONE_LINE = 72


@dataclass(frozen=True)
class CutText:
    """A text, cut to a length that a page can show."""

    text: str
    whole_length: int = 0  # Characters of a text that was cut; otherwise 0.


def printable(value: object) -> str:
    r"""
    Return `value` as a text that can be encoded: JSON may hold half of a surrogate pair.

    >>> printable("caf\u00e9 \ud800")
    'café \\ud800'
    """
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")


def split_name(name: str) -> tuple[str, str]:
    """
    Split the name of a task function into module and function. Any other name stays whole.

    >>> split_name("shop.tasks.send_welcome"), split_name("notify:ann@example.com")
    (('shop.tasks', 'send_welcome'), ('', 'notify:ann@example.com'))
    """
    module, _dot, function = name.rpartition(".")
    return (module, function) if re.fullmatch(r"[\w.<>]+", name) and function else ("", name)


def status_label(status: str) -> str:
    """Return the label of a status; an unknown status unchanged."""
    return str(Status(status).label) if status in Status.values else printable(status)


def join_names(names: Sequence[str], most: int) -> str:
    """
    Join the first names with commas; an ellipsis stands for the rest.

    >>> join_names(["a", "b", "c"], 2), join_names(["a"], 2)
    ('a, b, …', 'a')
    """
    return ", ".join([*names[:most], *(["…"] if len(names) > most else [])])


def parse_uuid(text: str | None) -> UUID | None:
    """Return the id that a text holds, or None."""
    try:
        return UUID(text)
    except (TypeError, ValueError):
        return None


def cut(text: str, most: int = MAX_SHOWN) -> CutText:
    """
    Cut a text after `most` characters.

    >>> cut("abcdef", 3)
    CutText(text='abc', whole_length=6)
    """
    return CutText(text) if len(text) <= most else CutText(text[:most], len(text))


def pretty_json(value: Any) -> CutText:
    """
    Format JSON on one line if it fits, otherwise indented.

    >>> pretty_json({"to": "ann"}).text
    '{"to": "ann"}'
    """
    try:
        text = json.dumps(value, cls=DjangoJSONEncoder, ensure_ascii=False)
        if len(text) > MAX_ON_ONE_LINE:
            text = json.dumps(value, cls=DjangoJSONEncoder, ensure_ascii=False, indent=2)
    except (TypeError, ValueError, RecursionError):  # Such as deeper nesting than the encoder supports.
        text = _("This value cannot be shown.")
    return cut(printable(text))


def duration(length: timedelta | float | None) -> str:
    """
    Format a length of time, a timedelta or a number of seconds, with at most two units.

    >>> duration(0.012), duration(3.417), duration(20), duration(timedelta(seconds=125)), duration(300)
    ('12 ms', '3.42 s', '20 s', '2 min 5 s', '5 min')
    """
    seconds = length.total_seconds() if isinstance(length, timedelta) else length
    if seconds is None or not math.isfinite(seconds):
        return "–"
    if seconds < 0:  # A clock was set back between the two moments.
        return "−" + duration(-seconds)
    if seconds < 0.9995:
        return _("%(count)s ms") % {"count": round(seconds * 1000)}
    if seconds < 59.95:
        return _("%(count)s s") % {"count": decimal(seconds, 2 if seconds < 9.995 else 1)}
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return _two(_("%(count)s d") % {"count": days}, hours and _("%(count)s h") % {"count": hours})
    if hours:
        return _two(_("%(count)s h") % {"count": hours}, minutes and _("%(count)s min") % {"count": minutes})
    return _two(_("%(count)s min") % {"count": minutes}, seconds and _("%(count)s s") % {"count": seconds})


def time_since(moment: datetime, now: datetime) -> str:
    """Format the time since a moment. It is 0 for a moment in the future, since clocks of machines differ."""
    return duration(max(now - moment, timedelta(0)))


def _two(first: str, second: str | int) -> str:
    return f"{first} {second}" if second else first


def decimal(value: float, places: int) -> str:
    """
    Format a number for the current language, a whole one without decimal places.

    >>> decimal(2.5, 2), decimal(19.98, 1), decimal(2.999, 2)
    ('2.50', '20', '3')
    """
    rounded = round(value, places)
    return number_format(rounded, 0 if rounded == int(rounded) else places)


def number(count: int) -> str:
    """
    Format a whole number with groups of digits.

    >>> number(999), number(1234567)
    ('999', '1,234,567')
    """
    return number_format(count, force_grouping=True)


def percent(part: float) -> str:
    """
    Format a part of 1. Only 1 itself is "100 %", and only 0 itself is "0 %".

    >>> percent(0.9912), percent(0.99999), percent(1.0), percent(0.0001), percent(0.0)
    ('99.1 %', '99.9 %', '100 %', '0.1 %', '0 %')
    """
    thousandths = round(1000 * part)
    if 0 < part < 1:
        thousandths = min(max(thousandths, 1), 999)
    return f"{decimal(thousandths / 10, 1)} %"


def write_moment(moment: datetime | None, *, milliseconds: bool = False) -> str:
    """Format a moment as local date and time, alike in all languages, so that columns align."""
    if moment is None:
        return "–"
    local = timezone.localtime(moment) if timezone.is_aware(moment) else moment
    text = local.isoformat(" ", "milliseconds" if milliseconds else "seconds")
    return text[:23] if milliseconds else text[:19]


def write_minute(moment: datetime | None) -> str:
    """Format a moment without its seconds."""
    return write_moment(moment)[:16]
