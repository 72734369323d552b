"""
The filters of the list of background tasks.

Each narrows it by an index, or by the id, which holds the time, or looks among the newest tasks only.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
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
from ..shared.base import find_processes, label_of
from ..shared.formats import write_moment
from ..shared.search_window import is_searchable, newest, newest_failed

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
LONGEST_TASK = timedelta(days=1)  # One that ended in some stretch of time was fired at most so long before.
LONGEST_STRETCH = timedelta(days=31)
STRETCH = re.compile(r"([0-9]{1,12})-([0-9]{1,12})")
NO_FINGERPRINT = "none"
MAX_DIGITS = 18  # Of a number that every database holds exactly.

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
        """Whether its value, which may come from any link, is none; then nothing is found, and the page says why."""
        return bool(self.value()) and self.value() not in SHOWN


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
        return queryset.none() if self.is_wrong else queryset.filter(status=self.value())

    @property
    def is_wrong(self) -> bool:
        return bool(self.value()) and self.value() not in Status.values


class NameFilter(SimpleListFilter):
    """Offers the declared task functions: to list the names in the table would read all of it."""

    title = _("name")
    parameter_name = "name"

    def __init__(self, request: HttpRequest, *args: Any) -> None:
        super().__init__(request, *args)
        chosen = {name for name, values in request.GET.lists() if any(values)}
        is_of_most = request.GET.get(StatusFilter.parameter_name) == Status.SUCCESSFUL
        # Whether another filter leaves fewer tasks, by an index of its own.
        self.is_beside_few = bool(chosen & {"show", "status", "error", "fingerprint"}) and not is_of_most

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        names = {function.name for function in declared.values()}  # A function may stand there under aliases too.
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
            # Its statistics tell only how many tasks a name has on average; it would read all that this one has.
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
        return queryset.none() if self.is_wrong else queryset.filter(process=self.process_id)

    @property
    def is_wrong(self) -> bool:
        return bool(self.value()) and self.process_id is None

    @property
    def process_id(self) -> UUID | None:
        try:
            return UUID(self.value())
        except (TypeError, ValueError):
            return None


class TaskProcessFilter(ProcessFilter):
    """Among the tasks that are live an index knows those of a process, among the others none does: the newest it is."""

    def __init__(self, request: HttpRequest, *args: Any) -> None:
        super().__init__(request, *args)
        self.is_of_failed_ones = (
            request.GET.get(ShowFilter.parameter_name) == "failed" or request.GET.get("status") in UNSUCCESSFUL
        )
        self.is_of_live_ones = request.GET.get(ShowFilter.parameter_name) in ("live", "waiting", "running")

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        found = super().queryset(request, queryset)
        if self.process_id is None or self.is_of_live_ones:
            return found
        bound = newest_failed if self.is_of_failed_ones else newest
        return found.filter(bound(request, queryset.db))


class FinishedFilter(SimpleListFilter):
    """
    Comes from the overview's columns, and is offered nowhere else: `finished=<from>-<until>`.

    Both are seconds since the epoch, the second one excluded.
    """

    title = _("finished")
    parameter_name = "finished"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        stretch = self.stretch
        if stretch is None:
            return []
        start, end = map(write_moment, stretch)
        return [(self.value() or "", f"{start} – {end[11:] if end[:10] == start[:10] else end}")]

    def has_output(self) -> bool:
        return bool(self.value())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if not self.value():
            return queryset
        if self.stretch is None:
            return queryset.none()
        start, end = self.stretch
        ids = first_id_of(max(start - LONGEST_TASK, datetime.fromtimestamp(0, UTC))), first_id_of(end)
        moments = [moment if settings.USE_TZ else timezone.make_naive(moment) for moment in (start, end)]
        return queryset.filter(pk__gte=ids[0], pk__lt=ids[1], finished_at__gte=moments[0], finished_at__lt=moments[1])

    @property
    def is_wrong(self) -> bool:
        return bool(self.value()) and self.stretch is None

    @property
    def stretch(self) -> tuple[datetime, datetime] | None:
        found = STRETCH.fullmatch(self.value() or "")
        try:
            start, end = (datetime.fromtimestamp(int(part), UTC) for part in found.groups()) if found else (None, None)
        except (ValueError, OverflowError, OSError):  # The year 10000.
            return None
        if start is None or end is None or not timedelta(0) < end - start <= LONGEST_STRETCH:
            return None
        return start, end


class QueueFilter(SimpleListFilter):
    """Offers the queues that this process knows of."""

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
    """A filter whose values are known to the rows only, so that it has a field to type in."""

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
    """Finds an exception's class with its module or without."""

    title = _("error")
    parameter_name = "error"
    placeholder = _("TimeoutError")

    def find(self, text: str, request: HttpRequest, alias: str) -> Q:
        matches = Q(error_type=text) | Q(error_type__endswith=f".{text}")
        return matches & newest_failed(request, alias)


class UserFilter(TypedFilter):
    """Finds who was logged in to the request that fired a task: by the id, a number or a text."""

    title = _("user")
    parameter_name = "user"
    placeholder = _("Id")

    def find(self, text: str, request: HttpRequest, alias: str) -> Q:
        ids: list[str | int] = [text]
        if text.isascii() and text.removeprefix("-").isdigit() and len(text) <= MAX_DIGITS:
            ids.append(int(text))
        return Q(fired_by__user_id__in=ids) & newest(request, alias)  # One look into each JSON for both of them.


class FingerprintFilter(SimpleListFilter):
    """Comes from the page of failures: the same error at the same place. The value "none" finds what has none."""

    title = _("fingerprint")
    parameter_name = "fingerprint"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        value = self.value() or ""
        return [(value, _("None") if value == NO_FINGERPRINT else value[:MAX_NAME_LENGTH])] if value else []

    def has_output(self) -> bool:
        return bool(self.value())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if not value:
            return queryset
        if not is_searchable(value):
            return queryset.none()
        wanted = "" if value == NO_FINGERPRINT else value
        return queryset.filter(newest_failed(request, queryset.db), error_fingerprint=wanted)
