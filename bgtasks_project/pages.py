"""The start page: live tasks, finished tasks, and buttons that fire tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db.models import Count
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

import bgtasks
from bgtasks.models import BackgroundTask

from .models import WebhookSubscription
from .tasks import block, count_subscribers, import_prices, wait

SHOWN_LIVE = 12
SHOWN_FINISHED = 15

BUTTONS: dict[str, Callable[[], list[bgtasks.TaskHandle[Any]]]] = {
    "quick": lambda: [bgtasks.fire(count_subscribers)],
    "slow": lambda: [bgtasks.fire(wait, 8)],
    "failing": lambda: [bgtasks.fire(import_prices)],
    "blocking": lambda: [bgtasks.fire(block, 3)],
    "thousand": lambda: [bgtasks.fire(wait, 1) for _ in range(1000)],
}


@never_cache
@require_GET
async def start(request: HttpRequest) -> HttpResponse:
    subscriptions = [subscription async for subscription in WebhookSubscription.objects.all()[:20]]
    context = {
        **await _gather_live(),
        "subscriptions": subscriptions,
        "subscription_count": await WebhookSubscription.objects.acount(),
        "address": request.build_absolute_uri("/").rstrip("/"),
    }
    return render(request, "demo/start.html", context)


@never_cache
@require_GET
async def live(request: HttpRequest) -> HttpResponse:
    """The part of the start page that changes; `live.js` asks for it each second."""
    return render(request, "demo/live.html", await _gather_live())


@require_POST
async def press(request: HttpRequest, button: str) -> HttpResponse:
    """Fire the tasks of a button. A program gets the task ids, a browser the start page."""
    if button not in BUTTONS:
        raise Http404(f"There is no button {button!r}.")
    try:
        handles = BUTTONS[button]()
    except (bgtasks.Draining, bgtasks.NotRecorded, bgtasks.Overloaded) as error:
        return JsonResponse({"error": str(error)}, status=503)
    if request.accepts("text/html"):
        return redirect("start")
    return JsonResponse({"task_ids": [str(handle.id) for handle in handles]}, status=202)


async def _gather_live() -> dict[str, Any]:
    handles = bgtasks.live_tasks()
    finished = BackgroundTask.objects.finished().only(
        "id", "name", "status", "created_at", "started_at", "finished_at", "error_type", "error_message"
    )
    counts = BackgroundTask.objects.order_by("status").values_list("status").annotate(Count("id"))
    count_by_status = {status: count async for status, count in counts}
    return {
        "live": sorted(handles, key=lambda handle: handle.id)[:SHOWN_LIVE],
        "live_count": len(handles),
        "more_count": max(0, len(handles) - SHOWN_LIVE),
        "finished": [task async for task in finished[:SHOWN_FINISHED]],
        "counts": [(status, count_by_status.get(status, 0)) for status in bgtasks.Status],
    }
