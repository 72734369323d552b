"""The banner on living processes without an active drain: their tasks are killed when they stop."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import router
from django.http import HttpRequest
from django.utils import timezone

from ...conf import get_settings
from ...models import BackgroundTask, Process
from ...process.machine import SERVERS

if TYPE_CHECKING:
    from .base import ReadOnlyAdmin

MAX_NAMED = 5  # Processes in the banner.


def describe_processes_without_drain(admin: ReadOnlyAdmin, request: HttpRequest) -> dict[str, Any] | None:
    """Return the values of the banner; None if all living processes have an active drain. One query."""
    alive = Process.objects.using(router.db_for_write(BackgroundTask)).filter(state__in=Process.UP, has_lifespan=False)
    rows = alive.filter(beat_at__gte=timezone.now() - _patience()).order_by("-pk")
    found = list(rows.only("host", "pid", "server")[: MAX_NAMED + 1])
    if not found:
        return None
    may_view = request.user.has_perm("bgtasks.view_process")
    return _describe(found, lambda process: admin.page_of(Process, process.pk) if may_view else "")


def describe_if_without_drain(process: Process) -> dict[str, Any] | None:
    """Return the values of the banner on the page of a process."""
    return _describe([process], lambda process: "") if has_no_drain(process) else None


def _describe(found: list[Process], url_of: Callable[[Process], str]) -> dict[str, Any]:
    return {
        "processes": [{"label": str(process), "url": url_of(process)} for process in found[:MAX_NAMED]],
        "are_more": len(found) > MAX_NAMED,
        "has_servers": any(process.server in SERVERS for process in found),
        "has_others": any(process.server not in SERVERS for process in found),
    }


def has_no_drain(process: Process) -> bool:
    """Return whether a process seems to be alive and has no active drain."""
    is_up = (
        process.state in Process.UP and process.beat_at is not None and timezone.now() - process.beat_at <= _patience()
    )
    return is_up and not process.has_lifespan


def _patience() -> timedelta:
    return timedelta(seconds=get_settings().dead_after)
