"""The order of the pages in the admin's list of models."""

from __future__ import annotations

from typing import Any

from django.utils.text import capfirst, format_lazy

PAGE_COUNT = 8


def page_name(place: int, name: Any) -> Any:
    """
    Name a page such that the admin, which sorts an app's pages by their names, shows it at this place.

    Browsers show no leading space. Pages without a place follow, by their names.
    """
    return format_lazy("{}{}", " " * (PAGE_COUNT + 1 - place), capfirst(name))
