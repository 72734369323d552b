"""
The actions on a selection in the list, and on all tasks that a filter matches.

An action on one task is carried out at once. An action on more tasks needs a confirmation first, on a page with their
number and some samples. One request acts on a bounded number, oldest first, and asks again if more are left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import DatabaseError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, ngettext_lazy

from ...models import BackgroundTask
from ...status import FINISHED, LIVE, Status
from ..shared import paginator, search_window
from ..shared.base import short_id
from ..shared.formats import printable, write_moment
from ..shared.keyset_paginator import AFTER, oldest_ids, read_id
from ..shared.paginator import count_up_to
from .actions import TaskActions
from .address import UNTIL, filters_in, with_query

MAX_SELECTED = 1000  # Ids in one request. A page of the list has 50.
SAMPLES = 5


@dataclass(frozen=True)
class BulkAction:
    """The texts and limits of an action."""

    title: Any
    question: Any
    button: Any
    consequence: Any
    statuses: frozenset[Status]  # Of the tasks to which it applies.
    most: int  # Tasks in one request.
    always_asks: bool = False
    is_alarming: bool = False


BULK_ACTIONS = {
    "fire_tasks_again": BulkAction(
        title=gettext_lazy("Fire again"),
        question=ngettext_lazy("Fire %(count)s task again?", "Fire %(count)s tasks again?", "count"),
        button=ngettext_lazy("Fire %(count)s task again", "Fire %(count)s tasks again", "count"),
        consequence=gettext_lazy("Each becomes a new task, with the same arguments, that any process may start."),
        statuses=FINISHED,
        most=1000,
    ),
    "cancel_tasks": BulkAction(
        title=gettext_lazy("Cancel"),
        question=ngettext_lazy("Cancel %(count)s task?", "Cancel %(count)s tasks?", "count"),
        button=ngettext_lazy("Cancel %(count)s task", "Cancel %(count)s tasks", "count"),
        consequence=gettext_lazy("Waiting tasks never start; running tasks are asked to stop where they stand."),
        statuses=LIVE,
        most=1000,
        is_alarming=True,
    ),
    "delete_tasks": BulkAction(
        title=gettext_lazy("Delete finished"),
        question=ngettext_lazy("Delete %(count)s finished task?", "Delete %(count)s finished tasks?", "count"),
        button=ngettext_lazy("Delete %(count)s task", "Delete %(count)s tasks", "count"),
        consequence=gettext_lazy(
            "Their rows are gone for good: arguments, results, tracebacks. The ledger and the admin log show that they "
            "existed."
        ),
        statuses=FINISHED,
        most=10_000,
        always_asks=True,
        is_alarming=True,
    ),
}


class BulkActions(TaskActions):
    actions = ["fire_tasks_again", "cancel_tasks", "delete_tasks"]

    @admin.action(description=gettext_lazy("Fire again"), permissions=["fire"])
    def fire_tasks_again(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        return self._begin(request, queryset, "fire_tasks_again")

    @admin.action(description=gettext_lazy("Cancel"), permissions=["cancel"])
    def cancel_tasks(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        return self._begin(request, queryset, "cancel_tasks")

    @admin.action(description=gettext_lazy("Delete finished"), permissions=["delete_finished"])
    def delete_tasks(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        return self._begin(request, queryset, "delete_tasks")

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if request.method == "POST" and not self.get_actions(request):
            raise PermissionDenied
        return super().changelist_view(request, extra_context)

    def response_action(
        self, request: HttpRequest, queryset: QuerySet[Any], *args: Any, **kwargs: Any
    ) -> HttpResponse | None:
        try:
            return super().response_action(request, queryset, *args, **kwargs)
        except ValidationError:  # A malformed id, which no form of ours sends.
            self.message_user(request, _("The selection does not consist of tasks. Nothing was done."), messages.ERROR)
            return None

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.ask_view)
        return [path("ask/<slug:name>/", view, name="bgtasks_backgroundtask_ask"), *super().get_urls()]

    def ask_view(self, request: HttpRequest, name: str) -> HttpResponse:
        """Ask about an action on all tasks that the filter of the address matches, and carry it out part by part."""
        if request.method not in ("GET", "HEAD", "POST"):
            return HttpResponseNotAllowed(["GET", "HEAD", "POST"])
        if name not in BULK_ACTIONS:
            raise Http404
        if not self.has_view_permission(request) or name not in self.get_actions(request):
            raise PermissionDenied
        if ACTION_CHECKBOX_NAME in request.POST:
            return self._act_on_selected(request, name)
        until = read_id(request.GET, UNTIL)
        try:
            rows = self._find_filtered(request, BULK_ACTIONS[name], until)
        except IncorrectLookupParameters:
            return HttpResponseRedirect(self.list_of(BackgroundTask))
        if request.method == "POST" and until is not None:
            return self._act_on_filtered(request, name, rows)
        return self._ask_about_filtered(request, name, rows, until)

    def _begin(self, request: HttpRequest, queryset: QuerySet[Any], name: str) -> HttpResponse | None:
        """Ask about an action that was chosen in the list. Carry it out for a single task, unless it is a deletion."""
        action = BULK_ACTIONS[name]
        if request.POST.get("select_across") == "1":
            return HttpResponseRedirect(self._ask_url(request, name))
        ids = oldest_ids(queryset, MAX_SELECTED + 1)
        if len(ids) > MAX_SELECTED:
            text = _("More than %(count)s tasks are named, which is too many at once. Nothing was done.")
            self.message_user(request, text % {"count": MAX_SELECTED}, messages.ERROR)
            return None
        if not ids:
            text = _("None of the selected tasks is there any more, or matches the filter. Nothing was done.")
            self.message_user(request, text, messages.WARNING)
            return None
        if len(ids) == 1 and not action.always_asks:
            self._carry_out(request, name, ids)
            return None
        text = str(action.question % {"count": len(ids)})
        return self._ask(request, name, text, len(ids), self._ask_url(request, name), ids[:SAMPLES], selected=ids)

    def _act_on_selected(self, request: HttpRequest, name: str) -> HttpResponse:
        try:
            ids = [UUID(each) for each in request.POST.getlist(ACTION_CHECKBOX_NAME)[: MAX_SELECTED + 1]]
        except ValueError:
            ids = []
        if not ids or len(ids) > MAX_SELECTED:
            self.message_user(request, _("The selection does not consist of tasks. Nothing was done."), messages.ERROR)
        else:
            self._carry_out(request, name, ids)
        return HttpResponseRedirect(self._list_url(request))

    def _act_on_filtered(self, request: HttpRequest, name: str, rows: QuerySet[Any]) -> HttpResponse:
        action = BULK_ACTIONS[name]
        ids = oldest_ids(rows, action.most + 1)
        if not ids:
            self.message_user(request, _("No task matches any more. Nothing was done."), messages.WARNING)
            return HttpResponseRedirect(self._list_url(request))
        part, is_last = ids[: action.most], len(ids) <= action.most
        if not self._carry_out(request, name, part) or is_last:
            return HttpResponseRedirect(self._list_url(request))
        self.message_user(request, _("That was one part. More tasks match: go on, or leave them."), messages.WARNING)
        return HttpResponseRedirect(self._ask_url(request, name, after=part[-1], keeps_until=True))

    def _ask_about_filtered(
        self, request: HttpRequest, name: str, rows: QuerySet[Any], until: UUID | None
    ) -> HttpResponse:
        action = BULK_ACTIONS[name]
        count = count_up_to(paginator.MAX_COUNT + 1, rows)
        if not count:
            text = _("No task matches for which that could be done.")
            self.message_user(request, text, messages.WARNING)
            return HttpResponseRedirect(self._list_url(request))
        now = min(count, action.most)
        if until is None:
            until = self.get_queryset(request).order_by("-pk").values_list("pk", flat=True).first()
        after = read_id(request.GET, AFTER)
        url = self._ask_url(request, name, after=after, until=until)
        if count > paginator.MAX_COUNT:
            text = _("%(action)s: more than %(count)s tasks match")
            text %= {"action": action.title, "count": paginator.MAX_COUNT}
        else:
            text = str(action.question % {"count": count})
        return self._ask(request, name, text, now, url, oldest_ids(rows, SAMPLES), is_part=now < count)

    def _ask(
        self,
        request: HttpRequest,
        name: str,
        question: str,
        count: int,
        url: str,
        samples: Sequence[UUID],
        selected: Sequence[UUID] = (),
        is_part: bool = False,
    ) -> HttpResponse:
        action = BULK_ACTIONS[name]
        part = ngettext(
            "One request does %(count)s task, the oldest that matches. You are asked about the rest afterwards.",
            "One request does %(count)s tasks, the oldest that match. You are asked about the rest afterwards.",
            count,
        )
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "media": self.media,
            "title": question,
            "action": action,
            "button": str(action.button % {"count": count}),
            "part": part % {"count": count} if is_part else "",
            "notes": [] if selected else search_window.describe(request),
            "filters": [] if selected else self._describe_filters(request),
            "samples": list(self._describe_samples(request, samples)),
            "are_more": (len(selected) or count + is_part) > len(samples),
            "selected": selected,
            "url": url,
            "list_url": self._list_url(request),
            "tasks_url": self.list_of(BackgroundTask),
        }
        return TemplateResponse(request, "admin/bgtasks/backgroundtask/ask.html", context)

    def _describe_samples(self, request: HttpRequest, ids: Sequence[UUID]) -> Iterator[dict[str, Any]]:
        found = self.get_queryset(request).only("name", "status", "created_at").in_bulk(list(ids))
        for task in (found[pk] for pk in ids if pk in found):
            yield {
                "name": printable(task.name),
                "id": short_id(task.pk),
                "url": self.page_of(BackgroundTask, task.pk),
                "status": task.status,
                "label": task.get_status_display(),
                "at": write_moment(task.created_at),
            }

    def _find_filtered(self, request: HttpRequest, action: BulkAction, until: UUID | None) -> Any:
        """Return the tasks that the filter of the address matches and to which the action applies."""
        rows = self.get_changelist_instance(request).queryset.filter(status__in=sorted(action.statuses))
        if action.statuses == LIVE:
            rows = rows.filter(cancel_requested_at=None)
        after = read_id(request.GET, AFTER)
        rows = rows.filter(pk__lte=until) if until is not None else rows
        return rows.filter(pk__gt=after) if after is not None else rows

    def _describe_filters(self, request: HttpRequest) -> list[tuple[str, str]]:
        changes = self.get_changelist_instance(request)
        found = [] if not changes.query else [(_("Search"), changes.query)]
        for spec in changes.filter_specs:
            value = spec.value()  # type: ignore[attr-defined]  # All are SimpleListFilters.
            if value:
                labels = {key: str(label) for key, label in spec.lookup_choices}  # type: ignore[attr-defined]
                found.append((str(spec.title), labels.get(value, value)))
        return [(label, printable(value)) for label, value in found]

    def _carry_out(self, request: HttpRequest, name: str, ids: Sequence[UUID]) -> bool:
        """Carry out an action. Return False if the database stopped it."""
        carry_out: dict[str, Callable[[HttpRequest, Sequence[BackgroundTask]], Any]] = {
            "fire_tasks_again": self.fire_again,
            "cancel_tasks": self.cancel,
            "delete_tasks": self._delete,
        }
        tasks: list[BackgroundTask] = []
        for start in range(0, len(ids), paginator.FEW):  # Databases limit the ids in one query.
            part = ids[start : start + paginator.FEW]
            tasks += self.get_queryset(request).only("name").filter(pk__in=part).order_by("pk")
        try:
            carry_out[name](request, tasks)
        except DatabaseError:  # Reported and logged already.
            return False
        return True

    def _ask_url(
        self,
        request: HttpRequest,
        name: str,
        after: UUID | None = None,
        until: UUID | None = None,
        keeps_until: bool = False,
    ) -> str:
        """Return the address that asks about the filter of this request."""
        url = reverse("admin:bgtasks_backgroundtask_ask", args=[name], current_app=self.admin_site.name)
        until = read_id(request.GET, UNTIL) if keeps_until else until
        own = {AFTER: after, UNTIL: until}
        return with_query(url, [*filters_in(request), *((name, str(pk)) for name, pk in own.items() if pk)])

    def _list_url(self, request: HttpRequest) -> str:
        return with_query(self.list_of(BackgroundTask), filters_in(request))
