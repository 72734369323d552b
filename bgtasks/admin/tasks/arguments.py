"""The stored arguments of a task, for its page and for exports."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _

from ...definition import declared
from ...definition.parameters import positional_names
from ...definition.sensitive import HIDDEN, is_sealed
from ...models import BackgroundTask
from ..shared.formats import CutText, pretty_json, printable

MAX_ARGUMENTS = 50  # On a line each; more are shown as one JSON text.


def hide_sealed(stored: Any) -> Any:
    """Return stored arguments with a mark in place of the encrypted ones."""
    if isinstance(stored, list):
        return [HIDDEN if is_sealed(value) else value for value in stored]
    if isinstance(stored, dict):
        return {name: HIDDEN if is_sealed(value) else value for name, value in stored.items()}
    return stored


def describe_arguments(task: BackgroundTask) -> list[tuple[str, CutText]]:
    args, kwargs = hide_sealed(task.args), hide_sealed(task.kwargs)
    if args is None and kwargs is None:
        return []
    is_call = isinstance(args, list) and isinstance(kwargs, dict)
    if not is_call or len(args) + len(kwargs) > MAX_ARGUMENTS:
        return [("args", pretty_json(args)), ("kwargs", pretty_json(kwargs))]
    names = _parameters(task.name)
    labels = [names[place] if len(args) <= len(names) else str(place) for place in range(len(args))]
    labels += [printable(key) for key in kwargs]
    return [(label, pretty_json(value)) for label, value in zip(labels, [*args, *kwargs.values()], strict=True)]


def describe_no_arguments(task: BackgroundTask) -> str:
    """Return the text in place of the arguments of a task that has none to show."""
    if task.args is None:
        return _("They are not stored, since the database refused them: see the timeline.")
    return _("None") if task.is_task_function else _("None recorded")


def _parameters(name: str) -> list[str]:
    """Return the names of the positional parameters; none if this process does not know the function."""
    function = declared.get(name)
    return positional_names(function.signature) if function is not None else []
