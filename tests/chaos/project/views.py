"""The views: they fire the tasks listed in the request, and answer with the outcome of each."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from asgiref.sync import sync_to_async
from django.apps import apps
from django.db import router, transaction
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt

import bgtasks
from bgtasks import transitions
from bgtasks.models import BackgroundTask

from . import disk, tasks


@csrf_exempt
async def fire(request: HttpRequest, mode: str) -> JsonResponse:
    """Fire tasks by `fire`, by `afire`, or as coroutine objects; answer {tag: [outcome, id]}."""
    wanted = json.loads(request.body)
    if mode == "afire":
        outcomes = await asyncio.gather(*(_afire(*item) for item in wanted))
    else:
        outcomes = [_fire(mode, *item) for item in wanted]
    return JsonResponse({item[1]: outcome for item, outcome in zip(wanted, outcomes, strict=True)})


async def _afire(name: str, tag: str, seconds: float) -> list[Any]:
    try:
        handle = await bgtasks.afire(tasks.find(name, tag), tag, seconds)
    except bgtasks.NotRecorded:
        return ["refused", None]
    except bgtasks.RecordUnknown as error:
        return ["unknown", str(error.id)]
    except (bgtasks.Draining, bgtasks.Overloaded, bgtasks.KeyConflict):
        return ["refused", None]
    return ["acknowledged", str(handle.id)]


def _fire(mode: str, name: str, tag: str, seconds: float) -> list[Any]:
    try:
        if mode == "object":
            handle = bgtasks.fire(tasks.work_as_object(tag, seconds), name="work_as_object")
        else:
            handle = bgtasks.fire(tasks.find(name, tag), tag, seconds)
    except (bgtasks.Draining, bgtasks.Overloaded):
        return ["refused", None]
    # A taken key shows only later.
    return ["unknown" if name == "work_with_key" else "acknowledged", str(handle.id)]


@csrf_exempt
def fire_in_transaction(request: HttpRequest, end: str) -> JsonResponse:
    """Fire tasks in a transaction of a sync view that is committed or, with `end` "rollback", rolled back."""
    with transaction.atomic():
        wanted = json.loads(request.body)
        handles = [bgtasks.fire(tasks.find(name, tag), tag, seconds) for name, tag, seconds in wanted]
        if end == "rollback":
            transaction.set_rollback(True)
    outcomes = ["refused" if end == "rollback" or handle.conflict else "acknowledged" for handle in handles]
    found = zip(wanted, handles, outcomes, strict=True)
    return JsonResponse({item[1]: [outcome, str(handle.id)] for item, handle, outcome in found})


@csrf_exempt
async def cancel(request: HttpRequest, task_id: Any) -> JsonResponse:
    """Cancel a task of any process."""
    using = router.db_for_write(BackgroundTask)
    is_cancelled = await sync_to_async(transitions.cancel)(using, task_id, "chaos", "asked for by the harness")
    return JsonResponse({"is_cancelled": is_cancelled})


async def state(request: HttpRequest) -> JsonResponse:
    journal = apps.get_app_config("bgtasks").runtime.journal
    return JsonResponse({"pending": bgtasks.pending_task_count(), "unwritten": journal.count_unwritten()})


@csrf_exempt
async def fill_disk(request: HttpRequest) -> JsonResponse:
    """Apply the limit of `disk` to the journal's open connection; new ones apply it themselves."""
    apps.get_app_config("bgtasks").runtime.journal.submit(disk.limit_open_connection)
    return JsonResponse({})
