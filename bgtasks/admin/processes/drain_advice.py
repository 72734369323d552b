"""The texts of the advice on DRAIN_TIMEOUT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import router
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from ...conf import get_settings
from ...models import BackgroundTask
from ...reports import drain_advice
from ..shared.formats import duration, number, percent, printable, split_name
from ..shared.recent_totals import totals_of_week
from .drain_page import tasks_url

if TYPE_CHECKING:
    from ..shared.base import ReadOnlyAdmin

MAX_FUNCTIONS = 8


def describe_advice(admin: ReadOnlyAdmin, request: HttpRequest) -> dict[str, Any] | None:
    """Return the advice for the pages of drains; None if there are too few measurements. One query."""
    found = drain_advice.advise(totals_of_week.get(router.db_for_write(BackgroundTask)), get_settings())
    if found is None:
        return None
    covers = ngettext(
        "%(time)s covers %(part)s of the tasks: %(count)s was measured in the last 7 days.",
        "%(time)s covers %(part)s of the tasks: %(count)s were measured in the last 7 days.",
        found.measured,
    )
    values = {"time": duration(found.timeout), "part": percent(found.covered_part), "count": number(found.measured)}
    cut = _(
        "Of the tasks running at any moment, %(part)s would not end in time: long tasks are more likely to be among "
        "them."
    )
    return {
        "covers": covers % values,
        "cut": cut % {"part": percent(found.cut_part)} if found.cut_part > 0 else "",
        "too_long": [_describe_function(each, admin, request) for each in found.too_long[:MAX_FUNCTIONS]],
        "hidden_count": max(len(found.too_long) - MAX_FUNCTIONS, 0),
        "least_timeout": found.least_timeout,
        "least_patience": found.least_patience,
    }


def _describe_function(each: drain_advice.TooLong, admin: ReadOnlyAdmin, request: HttpRequest) -> dict[str, Any]:
    module, function = split_name(printable(each.name))
    text = ngettext("p95 %(time)s, of %(count)s task", "p95 %(time)s, of %(count)s tasks", each.measured)
    return {
        "module": module,
        "function": function,
        "url": tasks_url(admin, request, printable(each.name)),
        "text": text % {"time": duration(each.p95), "count": number(each.measured)},
        "reruns": each.reruns,
    }
