"""The filters of the list of background tasks. Each narrows it by an index, or by the id, which holds the time."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.contrib.admin import SimpleListFilter
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from ..definition import MAX_NAME_LENGTH, declared
from ..querysets import UNSUCCESSFUL
from ..status import LIVE, Status
from ..uuid7 import uuid7_int
from .base import find_processes, label_of

SHOWN = {
    "live": sorted(LIVE),
    "waiting": [Status.READY],
    "running": [Status.RUNNING],
    "failed": UNSUCCESSFUL,
}
AGES = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(weeks=1)}

Choices = list[tuple[str, Any]]


class ShowFilter(SimpleListFilter):
    """The links above the list."""

    title = _("show")
    parameter_name = "show"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [("live", _("Live")), ("waiting", _("Waiting")), ("running", _("Running")), ("failed", _("Failed"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        statuses = SHOWN.get(self.value() or "")
        return queryset.filter(status__in=statuses) if statuses else queryset


class StatusFilter(SimpleListFilter):
    title = _("status")
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Offer the statuses that the link above the list leaves; of one there is nothing to choose."""
        statuses = SHOWN.get(request.GET.get(ShowFilter.parameter_name, ""), list(Status))
        return [(status.value, status.label) for status in Status if status in statuses] if len(statuses) > 1 else []

    def has_output(self) -> bool:
        return super().has_output() or bool(self.value())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if not self.value():
            return queryset
        return queryset.filter(status=self.value()) if self.value() in Status.values else queryset.none()


class NameFilter(SimpleListFilter):
    """Offers the declared task functions: to list the names in the table would read all of it."""

    title = _("name")
    parameter_name = "name"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        names = {function.name for function in declared.values()}  # A function may stand there under aliases too.
        if chosen := self.value():
            names.add(chosen[:MAX_NAME_LENGTH])
        return [(name, name) for name in sorted(names)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        name = self.value()
        if not name:
            return queryset
        if "\x00" in name:  # PostgreSQL refuses NUL in a text.
            return queryset.none()
        function = declared.get(name)
        if function is not None and function.name == name:
            return queryset.filter(name__in=function.names)
        return queryset.filter(name=name)


class FiredFilter(SimpleListFilter):
    title = _("fired")
    parameter_name = "fired"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [("hour", _("In the last hour")), ("day", _("In the last 24 hours")), ("week", _("In the last 7 days"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        age = AGES.get(self.value() or "")
        return queryset.filter(pk__gte=first_id_of(timezone.now() - age)) if age else queryset


class ProcessFilter(SimpleListFilter):
    """Comes from the page of a process, and is offered nowhere else: there are as many processes as boots."""

    title = _("process")
    parameter_name = "process"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        process_id = self.process_id
        return [(str(process_id), label_of(process_id, find_processes([process_id])))] if process_id else []

    def has_output(self) -> bool:
        return bool(self.value())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if not self.value():
            return queryset
        return queryset.filter(process=self.process_id) if self.process_id else queryset.none()

    @property
    def process_id(self) -> UUID | None:
        try:
            return UUID(self.value())
        except (TypeError, ValueError):
            return None


def first_id_of(moment: datetime) -> UUID:
    """Return the smallest id that a row of this moment can have."""
    milliseconds = int(moment.timestamp() * 1000)
    return UUID(int=uuid7_int(milliseconds * 1_000_000) >> 80 << 80)
