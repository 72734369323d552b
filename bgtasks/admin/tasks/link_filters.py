"""The filters of the list of background tasks that only links from other pages set: the list offers no choice."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.contrib.admin import SimpleListFilter
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from ...definition import MAX_NAME_LENGTH
from ...models.moments import to_datetime
from ...status import UNSUCCESSFUL
from ...uuid7 import first_id_of
from ..shared.base import find_processes, label_of
from ..shared.formats import parse_uuid, write_moment
from ..shared.search_window import is_searchable, newest, newest_failed
from .filters import Choices, ShowFilter

LONGEST_TASK = timedelta(days=1)  # A task that ended in a period is searched among those fired so long before it.
LONGEST_PERIOD = timedelta(days=31)
PERIOD = re.compile(r"([0-9]{1,12})-([0-9]{1,12})")
NO_FINGERPRINT = "none"


class ProcessFilter(SimpleListFilter):
    """Set by the page of a process. The list offers no choice, since each boot adds a process."""

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
        return parse_uuid(self.value())


class TaskProcessFilter(ProcessFilter):
    """Finds the live tasks of a process by an index, and its other tasks among the newest ones, which have no index."""

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
    Set by the columns of the overview: `finished=<from>-<until>`.

    Both are seconds since the epoch; the second one is exclusive.
    """

    title = _("finished")
    parameter_name = "finished"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        period = self.period
        if period is None:
            return []
        start, end = map(write_moment, period)
        return [(self.value() or "", f"{start} – {end[11:] if end[:10] == start[:10] else end}")]

    def has_output(self) -> bool:
        return bool(self.value())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if not self.value():
            return queryset
        if self.period is None:
            return queryset.none()
        start, end = self.period
        ids = first_id_of(start - LONGEST_TASK), first_id_of(end)
        moments = [to_datetime(moment.timestamp()) for moment in (start, end)]
        return queryset.filter(pk__gte=ids[0], pk__lt=ids[1], finished_at__gte=moments[0], finished_at__lt=moments[1])

    @property
    def is_wrong(self) -> bool:
        return bool(self.value()) and self.period is None

    @property
    def period(self) -> tuple[datetime, datetime] | None:
        found = PERIOD.fullmatch(self.value() or "")
        try:
            start, end = (datetime.fromtimestamp(int(part), UTC) for part in found.groups()) if found else (None, None)
        except (ValueError, OverflowError, OSError):  # Such as the year 10000.
            return None
        if start is None or end is None or not timedelta(0) < end - start <= LONGEST_PERIOD:
            return None
        return start, end


class FingerprintFilter(SimpleListFilter):
    """Set by the page of failures: the same error at the same place. "none" stands for no fingerprint."""

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
