"""
The filters of the list of background tasks.

Each of them uses an index, or the time in the id, or searches the newest tasks only.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib.admin import SimpleListFilter
from django.db import connections
from django.db.models import Q, QuerySet, Value
from django.db.models.functions import Concat
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from ...conf import get_settings
from ...definition import DEFAULTS, MAX_NAME_LENGTH, declared
from ...status import LIVE, UNSUCCESSFUL, Status
from ...uuid7 import first_id_of
from ..shared.search_window import MAX_DIGITS, is_searchable, newest, newest_failed

SHOWN = {
    "live": sorted(LIVE),
    "waiting": [Status.READY],
    "running": [Status.RUNNING],
    "failed": UNSUCCESSFUL,
}
AGES = {
    "hour": timedelta(hours=1),
    "3hours": timedelta(hours=3),
    "day": timedelta(days=1),
    "3days": timedelta(days=3),
    "week": timedelta(weeks=1),
}

Choices = list[tuple[str, Any]]


class ShowFilter(SimpleListFilter):
    """The links above the list."""

    title = _("show")
    parameter_name = "show"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [("live", _("Live")), ("waiting", _("Waiting")), ("running", _("Running")), ("failed", _("Failed"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if not self.value():
            return queryset
        return queryset.filter(status__in=SHOWN.get(self.value() or "", []))

    @property
    def is_wrong(self) -> bool:
        """Whether its value, which any link may hold, is invalid. Then the list is empty, with a note on the reason."""
        return bool(self.value()) and self.value() not in SHOWN


class StatusFilter(SimpleListFilter):
    title = _("status")
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Offer the statuses within the chosen tab, unless it has a single one."""
        statuses = SHOWN.get(request.GET.get(ShowFilter.parameter_name, ""), list(Status))
        return [(status.value, status.label) for status in Status if status in statuses] if len(statuses) > 1 else []

    def has_output(self) -> bool:
        return super().has_output() or bool(self.value())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if not self.value():
            return queryset
        return queryset.none() if self.is_wrong else queryset.filter(status=self.value())

    @property
    def is_wrong(self) -> bool:
        return bool(self.value()) and self.value() not in Status.values


class NameFilter(SimpleListFilter):
    """Offers the declared task functions: a list of the names in the table would take reading all of it."""

    title = _("name")
    parameter_name = "name"

    def __init__(self, request: HttpRequest, *args: Any) -> None:
        super().__init__(request, *args)
        chosen = {name for name, values in request.GET.lists() if any(values)}
        is_of_most = request.GET.get(StatusFilter.parameter_name) == Status.SUCCESSFUL
        # Whether another filter, with an index of its own, leaves fewer tasks than the name.
        self.is_beside_few = bool(chosen & {"show", "status", "error", "fingerprint"}) and not is_of_most

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        names = {function.name for function in declared.values()}  # `declared` has a function under its aliases, too.
        if chosen := self.value():
            names.add(chosen[:MAX_NAME_LENGTH])
        return [(name, name) for name in sorted(names)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        name = self.value()
        if not name:
            return queryset
        if not is_searchable(name):
            return queryset.none()
        function = declared.get(name)
        names = function.names if function is not None and function.name == name else (name,)
        column = "name"
        if self.is_beside_few and connections[queryset.db].vendor == "sqlite":
            # Its statistics have only the average number of tasks of a name: it would read all tasks of this one.
            queryset, column = queryset.alias(plain_name=Concat("name", Value(""))), "plain_name"
        return queryset.filter(**{f"{column}__in": names})


class FiredFilter(SimpleListFilter):
    title = _("fired")
    parameter_name = "fired"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [
            ("hour", _("In the last hour")),
            ("3hours", _("In the last 3 hours")),
            ("day", _("In the last 24 hours")),
            ("3days", _("In the last 3 days")),
            ("week", _("In the last 7 days")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if not self.value():
            return queryset
        age = AGES.get(self.value() or "")
        return queryset.filter(pk__gte=first_id_of(timezone.now() - age)) if age else queryset.none()

    @property
    def is_wrong(self) -> bool:
        return bool(self.value()) and self.value() not in AGES


class QueueFilter(SimpleListFilter):
    """Offers the queues of the declared functions and of the settings."""

    is_folded = True
    title = _("queue")
    parameter_name = "queue"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        names = {DEFAULTS.queue, *get_settings().queues, *(function.options.queue for function in declared.values())}
        if chosen := self.value():
            names.add(chosen[:MAX_NAME_LENGTH])
        return [(name, name) for name in sorted(names)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        queue = self.value()
        if not queue:
            return queryset
        if not is_searchable(queue):
            return queryset.none()
        return queryset.filter(newest(request, queryset.db), queue_name=queue)


class TypedFilter(SimpleListFilter):
    """A filter with a text field, since only the rows have its values."""

    is_folded = is_typed = True
    placeholder: Any = ""

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return []

    def has_output(self) -> bool:
        return True

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        text = (self.value() or "").strip()
        if not text:
            return queryset
        if not is_searchable(text):
            return queryset.none()
        return queryset.filter(self.find(text, request, queryset.db))

    def find(self, text: str, request: HttpRequest, alias: str) -> Q:
        raise NotImplementedError


class ReleaseFilter(TypedFilter):
    title = _("release")
    parameter_name = "release"

    def find(self, text: str, request: HttpRequest, alias: str) -> Q:
        return Q(release=text) & newest(request, alias)


class ErrorFilter(TypedFilter):
    """Finds the class of an exception with or without its module."""

    title = _("error")
    parameter_name = "error"
    placeholder = _("TimeoutError")

    def find(self, text: str, request: HttpRequest, alias: str) -> Q:
        matches = Q(error_type=text) | Q(error_type__endswith=f".{text}")
        return matches & newest_failed(request, alias)


class UserFilter(TypedFilter):
    """Finds the user of the request that fired a task by the id, a number or a text."""

    title = _("user")
    parameter_name = "user"
    placeholder = _("Id")

    def find(self, text: str, request: HttpRequest, alias: str) -> Q:
        ids: list[str | int] = [text]
        if text.isascii() and text.removeprefix("-").isdigit() and len(text) <= MAX_DIGITS:
            ids.append(int(text))
        return Q(fired_by__user_id__in=ids) & newest(request, alias)  # One lookup in JSON for both.
