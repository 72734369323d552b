"""Names that sort the pages in the admin's list of models."""

from __future__ import annotations

from typing import Any

from django.utils.text import capfirst, format_lazy

PAGE_COUNT = 8


def page_name(place: int, name: Any) -> Any:
    """
    Return a name that puts a page at a place, counted from 1, in the admin's list of pages, which is sorted by name.

    Leading spaces decide the order, and browsers do not show them. Pages with plain names follow in alphabetical order.
    """
    return format_lazy("{}{}", " " * (PAGE_COUNT + 1 - place), capfirst(name))
