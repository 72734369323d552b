"""How the admin's pages write values down. Rows hold what anybody put there, so nothing here may fail or emit HTML."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.translation import gettext as _

MAX_SHOWN = 20_000  # Characters of one value on a page.
MAX_ON_ONE_LINE = 72


@dataclass(frozen=True)
class Shown:
    """A text as a page shows it."""

    text: str
    whole_length: int = 0  # In characters, where the text is cut; otherwise 0.


def printable(value: object) -> str:
    r"""
    Return `value` as a text that every page can be encoded with: JSON may hold half of a surrogate pair.

    >>> printable("caf\u00e9 \ud800")
    'café \\ud800'
    """
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")


def split_name(name: str) -> tuple[str, str]:
    """
    Split a task function's name into module and function; any other name is left whole.

    >>> split_name("shop.tasks.send_welcome"), split_name("notify:ann@example.com")
    (('shop.tasks', 'send_welcome'), ('', 'notify:ann@example.com'))
    """
    module, _dot, function = name.rpartition(".")
    return (module, function) if re.fullmatch(r"[\w.<>]+", name) and function else ("", name)


def cut(text: str, most: int = MAX_SHOWN) -> Shown:
    """
    >>> cut("abcdef", 3)
    Shown(text='abc', whole_length=6)
    """
    return Shown(text) if len(text) <= most else Shown(text[:most], len(text))


def pretty_json(value: Any) -> Shown:
    """
    Write JSON on one line when it fits, otherwise indented.

    >>> pretty_json({"to": "ann"}).text
    '{"to": "ann"}'
    """
    try:
        text = json.dumps(value, cls=DjangoJSONEncoder, ensure_ascii=False)
        if len(text) > MAX_ON_ONE_LINE:
            text = json.dumps(value, cls=DjangoJSONEncoder, ensure_ascii=False, indent=2)
    except (TypeError, ValueError, RecursionError):  # Nested deeper than the indenting encoder goes, for one.
        text = _("This value cannot be shown.")
    return cut(printable(text))


def request_line(fired_by: Any) -> str:
    """
    Write which request fired a task, as its row holds it.

    >>> request_line({"method": "POST", "path": "/signup", "user_id": 7})
    'POST /signup · user 7'
    """
    request = fired_by if isinstance(fired_by, dict) else {}
    line = " ".join(printable(request[key]) for key in ("method", "path") if request.get(key))
    user = _("user %(id)s") % {"id": printable(request["user_id"])} if request.get("user_id") is not None else ""
    request_id = _("request %(id)s") % {"id": printable(request["request_id"])} if request.get("request_id") else ""
    return cut(" · ".join(filter(None, [line, user, request_id])), 500).text


def duration(length: timedelta | float | None) -> str:
    """
    Write a length of time, given as such or in seconds, with two units at most.

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


def _two(first: str, second: str | int) -> str:
    return f"{first} {second}" if second else first


def decimal(value: float, places: int) -> str:
    """
    Write a number as the language does, and a whole one without places.

    >>> decimal(2.5, 2), decimal(19.98, 1), decimal(2.999, 2)
    ('2.50', '20', '3')
    """
    rounded = round(value, places)
    return number_format(rounded, 0 if rounded == int(rounded) else places)


def number(count: int) -> str:
    """
    Write a number that may be large, in groups of digits.

    >>> number(999), number(1234567)
    ('999', '1,234,567')
    """
    return number_format(count, force_grouping=True)


def percent(part: float) -> str:
    """
    Write a part so that it is "100 %" only if nothing is left out, and "0 %" only if nothing is there.

    >>> percent(0.9912), percent(0.99999), percent(1.0), percent(0.0001), percent(0.0)
    ('99.1 %', '99.9 %', '100 %', '0.1 %', '0 %')
    """
    thousandths = round(1000 * part)
    if 0 < part < 1:
        thousandths = min(max(thousandths, 1), 999)
    return f"{decimal(thousandths / 10, 1)} %"


def write_moment(moment: datetime | None, *, milliseconds: bool = False) -> str:
    """Write a moment as local date and time, the same in every language, so that columns align."""
    if moment is None:
        return "–"
    local = timezone.localtime(moment) if timezone.is_aware(moment) else moment
    text = local.isoformat(" ", "milliseconds" if milliseconds else "seconds")
    return text[:23] if milliseconds else text[:19]
