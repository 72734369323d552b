"""The search of the list of background tasks. It reads a bounded number of rows for any input."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import F, Q, QuerySet
from django.db.models.fields.json import KeyTransform
from django.http import HttpRequest

from ...definition import declared
from ...definition.parameters import positional_names
from ...models import BackgroundTask
from ..shared import paginator
from ..shared.formats import parse_uuid
from ..shared.search_window import MAX_DIGITS, is_searchable, newest

MAX_DIFFERENT = 1000  # Names in the table. Up to so many, a term is compared with each of them.
MAX_NAMES = 100  # Names that one search may match.
ARGUMENT = re.compile(r"(?:args|kwargs)\.(?P<name>\w{1,100}):(?P<value>.*)", re.DOTALL)


def search(request: HttpRequest, rows: QuerySet[Any], term: str) -> Any:
    """
    Narrow `rows` to the tasks with this id, this key, this part of a name or, as in `args.user_id:5`, this argument.

    Ids, keys of live tasks and names are found among all tasks, arguments and keys of finished tasks among the newest.
    A whole id finds the task with this id only, and no task that has it as its key. A search for arguments takes the
    permission to view them, since it would reveal them guess by guess.
    """
    term = term.strip()
    if not term:
        return rows
    if not is_searchable(term):
        return rows.none()
    argument = read_argument(term)
    if argument is None:
        task = _by_id(rows, term)
        return task if task is not None else rows.filter(_by_key(request, rows, term) | _by_name(request, rows, term))
    if not may_view_arguments(request):
        return rows.none()
    return _find_argument(rows.filter(newest(request, rows.db)), argument)


def may_view_arguments(request: HttpRequest) -> bool:
    return bool(request.user.has_perm("bgtasks.view_task_args"))


def read_scalars(text: str) -> list[Any]:
    """
    Return the JSON values that an input may mean.

    >>> read_scalars("5"), read_scalars('"5"'), read_scalars("true"), read_scalars("ann"), read_scalars("NaN")
    ([5, '5'], ['5', '"5"'], [True, 'true'], ['ann'], ['NaN'])
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return [text]
    is_number = isinstance(value, int | float) and len(text) <= MAX_DIGITS and math.isfinite(value)
    return [value, text] if is_number or (isinstance(value, str) and is_searchable(value)) else [text]


@dataclass(frozen=True)
class Argument:
    name: str  # Of a parameter, or a number: a position.
    values: Sequence[Any]


def read_argument(term: str) -> Argument | None:
    """Return the argument for which a term searches; None if it searches for something else."""
    found = ARGUMENT.fullmatch(term)
    return Argument(found["name"], read_scalars(found["value"].strip())) if found else None


def _by_id(rows: QuerySet[Any], term: str) -> Any:
    """Return the task with this id; None if the term is not the id of a task."""
    task_id = parse_uuid(term)
    if task_id is None:
        return None
    found = rows.filter(pk=task_id)
    return found if found.exists() else None


def _by_key(request: HttpRequest, rows: QuerySet[Any], term: str) -> Q:
    """Return the condition of having this key, by ids if they are few: thus the newest rows are searched only once."""
    matches = Q(live_key=term) | (Q(key=term) & newest(request, rows.db))
    ids = list(rows.filter(matches).order_by().values_list("pk", flat=True)[: paginator.FEW + 1])
    return Q(pk__in=ids) if len(ids) <= paginator.FEW else matches


def _by_name(request: HttpRequest, rows: QuerySet[Any], term: str) -> Q:
    """
    Return the condition of having this part of a name, by the names in the table, which an index has.

    If they are too many, since each coroutine object may have a name of its own, the newest tasks are searched.
    """
    names = BackgroundTask.objects.using(rows.db).find_names(MAX_DIFFERENT + 1)
    found = _matching(term, names)
    if len(names) <= MAX_DIFFERENT and len(found) <= MAX_NAMES:
        return Q(name__in=found)
    known = Q(name__in=[term, *_matching(term, sorted(declared))[:MAX_NAMES]])
    return known | (Q(name__icontains=term) & newest(request, rows.db))


def _matching(term: str, names: Sequence[str]) -> list[str]:
    return [name for name in names if term.lower() in name.lower()]


def _find_argument(rows: QuerySet[Any], argument: Argument) -> Any:
    """Narrow `rows` to those with this argument by keyword, or by position if this process knows the function."""
    if argument.name.isascii() and argument.name.isdigit():
        positions: dict[int, list[str] | None] = {int(argument.name[:4]): None}
    else:
        positions = dict(_positions_of(argument.name))
    # As expressions, since in the name of a lookup the input could be another lookup.
    columns = {f"at_{position}": KeyTransform(str(position), F("args")) for position in positions}
    if argument.name.isidentifier():
        columns["by_keyword"] = KeyTransform(argument.name, F("kwargs"))
    found = Q(pk__in=[])
    for column in columns:
        matches = Q()
        for value in argument.values:
            matches |= Q(**{column: value})
        names = None if column == "by_keyword" else positions[int(column.removeprefix("at_"))]
        found |= matches & (Q(name__in=names) if names is not None else Q())
    return rows.alias(**columns).filter(found)


def _positions_of(parameter: str) -> dict[int, list[str]]:
    """Return the names of the declared functions that have this parameter, by its position among their arguments."""
    positions: dict[int, list[str]] = {}
    for name, function in sorted(declared.items()):
        names = positional_names(function.signature)
        if parameter in names:
            positions.setdefault(names.index(parameter), []).append(name)
    return positions
