"""The limit watcher: sees what is paused, and how many wait in the queues that take only so many."""

from __future__ import annotations

from django.db import router
from django.utils import timezone

from ..models import BackgroundTask
from ..models.control import find_paused
from ..runtime.runner import Runner


class LimitWatcher:
    """Looks every POLL_INTERVAL."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._next = 0.0

    def seconds_until_due(self, now: float) -> float:
        return max(self._next - now, 0.0)

    def run_once(self, now: float) -> None:
        runner = self._runner
        self._next = now + runner.settings.poll_interval
        alias = router.db_for_write(BackgroundTask)
        runner.heed_pauses(*find_paused(alias))
        for queue, most in runner.limits.max_waiting.items():
            waiting = BackgroundTask.objects.using(alias).ready(timezone.now()).filter(queue_name=queue)
            # No further than it matters: the table may hold a million.
            runner.limits.waiting[queue] = waiting.order_by("-priority", "id").values("pk")[:most].count()
