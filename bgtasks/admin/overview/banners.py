"""The banners at the head of the overview: problems that need attention now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from ...api import get_config
from ...conf import get_settings
from ...models import BackgroundTask, Process
from ...reports.stuck import find_known_functions
from ..shared.formats import duration, join_names, printable, time_since
from ..shared.paginator import count_up_to

if TYPE_CHECKING:
    from ..shared.base import ReadOnlyAdmin

BACKLOG = 2000  # Unwritten records: more than one batch.
MAX_COUNT = 1000
MAX_NAMED = 5  # Names in one banner.


@dataclass(frozen=True)
class Banner:
    """
    One banner.

    Args:
        kind: "alarm" or "hint".
    """

    kind: str
    title: str
    text: str
    url: str = ""


def find_banners(admin: ReadOnlyAdmin, using: str, processes: Sequence[Process], now: datetime) -> Iterator[Banner]:
    """Yield the banners on these processes, which are up, and on the state of this process. Three queries."""
    yield from _find_own_problems()
    yield from _find_left_tasks(admin, using, processes)
    yield from _find_unknown_functions(admin, using, now)
    for process in processes:
        url = admin.page_of(Process, process.pk)
        if process.blocked_since:
            since = _("for %(time)s") % {"time": time_since(process.blocked_since, now)}
            yield Banner("alarm", _("An event loop is blocked"), f"{process}, {since}.", url)
        elif process.beat_at is not None and now - process.beat_at > timedelta(seconds=get_settings().dead_after):
            silence = duration(now - process.beat_at)
            text = _("%(process)s has not beaten for %(time)s: it died, stands still, or cannot reach the database.")
            yield Banner("alarm", _("A process is silent"), text % {"process": process, "time": silence}, url)


def _find_left_tasks(admin: ReadOnlyAdmin, using: str, processes: Sequence[Process]) -> Iterator[Banner]:
    """Find running tasks of processes that are over. The rescue of a living process ends them within seconds."""
    up = [process.pk for process in processes]
    left = BackgroundTask.objects.using(using).running().exclude(process=None).exclude(process__in=up)
    count = count_up_to(MAX_COUNT, left)
    if count:
        text = ngettext(
            "%(count)s task is recorded as running, but its process is over. A living process ends it at its next "
            "check.",
            "%(count)s tasks are recorded as running, but their process is over. A living process ends them at its "
            "next check.",
            count,
        )
        yield Banner("alarm", _("A process died with running tasks"), text % {"count": count})


def _find_unknown_functions(admin: ReadOnlyAdmin, using: str, now: datetime) -> Iterator[Banner]:
    """Find tasks that no living process can start, since none knows their functions, among the next MAX_COUNT ones."""
    known = find_known_functions(using, get_settings(), now)
    if known is None:
        return
    ready = BackgroundTask.objects.using(using).ready(now).order_by("-priority", "id")
    unknown = Counter(name for name in ready.values_list("name", flat=True)[:MAX_COUNT] if name not in known)
    if unknown:
        names = [printable(name)[:100] for name, _count in unknown.most_common()]
        text = ngettext(
            "%(count)s task waits for a process that knows its function: %(names)s.",
            "%(count)s tasks wait for a process that knows their functions: %(names)s.",
            unknown.total(),
        )
        values = {"count": unknown.total(), "names": join_names(names, MAX_NAMED)}
        yield Banner("hint", _("No process knows a function"), text % values, admin.tasks_url(show="waiting"))


def _find_own_problems() -> Iterator[Banner]:
    runner = get_config().find_runner()
    if runner is None:
        return
    if runner.journal.outage.is_away:
        text = _("This process cannot record tasks: they go on, and their records wait in memory.")
        yield Banner("alarm", _("The database does not take records"), text)
    unwritten = runner.journal.count_unwritten()
    if unwritten > BACKLOG:
        text = _("%(count)s records wait in this process to be written.") % {"count": unwritten}
        yield Banner("hint", _("The journal has a backlog"), text)
