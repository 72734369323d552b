"""The limit watcher: reads the pauses, and counts the waiting rows of queues with MAX_WAITING."""

from __future__ import annotations

from django.db import router
from django.utils import timezone

from ..conf import Settings
from ..models import BackgroundTask
from ..models.control import find_paused
from ..runtime.backlog import Backlog
from ..runtime.limits import Limits


class LimitWatcher:
    """Reads the table every POLL_INTERVAL."""

    def __init__(self, settings: Settings, limits: Limits, backlog: Backlog) -> None:
        self._settings = settings
        self._limits = limits
        self._backlog = backlog
        self._next = 0.0

    def seconds_until_due(self, now: float) -> float:
        return max(self._next - now, 0.0)

    def run_once(self, now: float) -> None:
        self._next = now + self._settings.poll_interval
        alias = router.db_for_write(BackgroundTask)
        if self._limits.pause(*find_paused(alias)):
            self._backlog.expect_rows()  # Tasks that were fired during the pause wait in the table.
        for queue, most in self._limits.max_waiting.items():
            waiting = BackgroundTask.objects.using(alias).ready(timezone.now()).filter(queue_name=queue)
            # Counted up to the bound only: the table may have a million rows.
            self._limits.waiting[queue] = waiting.order_by("-priority", "id").values("pk")[:most].count()
