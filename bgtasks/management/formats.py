"""How the commands write values: durations, moments, numbers, and names, which may hold any character."""

from __future__ import annotations

from datetime import datetime

from django.utils import timezone


def visible(value: object) -> str:
    r"""
    Return a text of one line. Characters that would move the cursor, colour or hide text become escapes.

    >>> visible("na\u00efve \x1b[2J\u202e\n")
    'naïve \\x1b[2J\\u202e\\n'
    """
    text = str(value)
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def format_length(seconds: float | None) -> str:
    """
    Return a duration with two units at most, below a second in milliseconds.

    >>> format_length(None), format_length(0.0123), format_length(2.5), format_length(75)
    ('–', '12 ms', '2.5 s', '1 min 15 s')
    >>> format_length(3 * 3600 + 60), format_length(2 * 86400)
    ('3 h 1 min', '2 d 0 h')
    """
    if seconds is None:
        return "–"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    for unit, size, lesser, lesser_size in (("d", 86400, "h", 3600), ("h", 3600, "min", 60)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // lesser_size} {lesser}"
    return f"{whole // 60} min {whole % 60} s"


def format_age(moment: datetime | None) -> str:
    """Return the time since a moment, or "–" if it is not known."""
    return format_length(max((timezone.now() - moment).total_seconds(), 0.0) if moment is not None else None)


def format_moment(moment: datetime) -> str:
    """Return a moment as local date and time. It is naive if USE_TZ is false."""
    local = timezone.localtime(moment) if timezone.is_aware(moment) else moment
    return f"{local:%Y-%m-%d %H:%M:%S}"


def format_part(part: float, digits: int = 0) -> str:
    """
    >>> format_part(0.25), format_part(0.0163, 1)
    ('25 %', '1.6 %')
    """
    return f"{part * 100:.{digits}f} %"


def format_count(number: int, one: str, many: str) -> str:
    """
    >>> format_count(1, "task", "tasks"), format_count(0, "task", "tasks")
    ('1 task', '0 tasks')
    """
    return f"{number} {one if number == 1 else many}"


def cut_front(text: str, most: int) -> str:
    """
    Shorten a text to its end, which says most in the name of a function.

    >>> cut_front("shop.orders.tasks.send", 12)
    '….tasks.send'
    """
    return text if len(text) <= most else f"…{text[-most + 1 :]}"


def cut_back(text: str, most: int) -> str:
    """
    >>> cut_back("welcome:1234", 8)
    'welcome…'
    """
    return text if len(text) <= most else f"{text[: most - 1]}…"
