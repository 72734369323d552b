"""Views of the test project: each fires the tasks that its query describes."""

from __future__ import annotations

import asyncio
import gc
import json
import sqlite3
import time
from typing import Any
from uuid import UUID

from django.db import connection
from django.http import HttpRequest, JsonResponse

import bgtasks
from bgtasks.api import get_runner

from . import tasks


async def fire(request: HttpRequest, name: str) -> JsonResponse:
    """Fire the task `name` `times` times with the JSON list `args`, whose "{}" becomes a number from `first` on."""
    task = getattr(tasks, name)
    if options := json.loads(request.GET.get("using", "{}")):
        task = task.using(**options)
    if request.GET.get("together"):
        return await fire_together(task, read_args(request))
    handles = []
    for args in read_args(request):
        if request.GET.get("recorded"):
            handles.append(await bgtasks.afire(task, *args))
        else:
            handles.append(bgtasks.fire(task, *args))
    if request.GET.get("wait"):
        await asyncio.gather(*handles)
    if request.GET.get("linger"):
        await asyncio.sleep(float(request.GET["linger"]))
    return JsonResponse({"ids": [str(handle.id) for handle in handles]})


async def fire_together(task: Any, calls: list[list[object]]) -> JsonResponse:
    """Fire all at once, each recorded; answer with the ids and the number of conflicts about the key."""
    found = await asyncio.gather(*(bgtasks.afire(task, *args) for args in calls), return_exceptions=True)
    ids = [str(one.id) for one in found if isinstance(one, bgtasks.TaskHandle)]
    errors = [type(one).__name__ for one in found if isinstance(one, BaseException)]
    return JsonResponse({"ids": ids, "errors": errors})


async def result(request: HttpRequest, task_id: str) -> JsonResponse:
    """Wait for a task of any process."""
    handle = await bgtasks.aget(task_id)
    return JsonResponse({"result": await handle.wait(timeout=60)})


def result_sync(request: HttpRequest, task_id: str) -> JsonResponse:
    return JsonResponse({"result": bgtasks.get(task_id).result(timeout=60)})


def fire_sync(request: HttpRequest, name: str) -> JsonResponse:
    """Fire as `fire` does, in a sync view."""
    handles = [bgtasks.fire(getattr(tasks, name), *args) for args in read_args(request)]
    return JsonResponse({"ids": [str(handle.id) for handle in handles]})


def read_args(request: HttpRequest) -> list[list[object]]:
    """Return the arguments of each firing that the query describes."""
    template = json.loads(request.GET.get("args", "[]"))
    first = int(request.GET.get("first", "0"))
    times = int(request.GET.get("times", "1"))
    numbers = range(first, first + times)
    return [[number if value == "{}" else value for value in template] for number in numbers]


async def fire_coroutine(request: HttpRequest) -> JsonResponse:
    async def work() -> None:
        await asyncio.sleep(float(request.GET["seconds"]))

    handle = bgtasks.fire(work(), name="a coroutine object")
    return JsonResponse({"ids": [str(handle.id)]})


async def state(request: HttpRequest) -> JsonResponse:
    answer = {"pending": bgtasks.pending_task_count(), "asked_about": len(get_runner().peers.asked_about)}
    # Only on SQLite, which has no server to ask: a walk over all objects holds another thread's cursor for a moment,
    # and closes it in the wrong thread.
    if connection.vendor == "sqlite":
        # A count of file descriptors would be wrong: SQLite keeps that of a closed connection for the next one.
        answer["connections"] = sum(type(found) is sqlite3.Connection for found in gc.get_objects())
    return JsonResponse(answer)


async def wait(request: HttpRequest, task_id: UUID) -> JsonResponse:
    """Wait up to `timeout` seconds for a task of any process; answer with its end and the seconds until then."""
    handle = await bgtasks.aget(task_id)
    began = time.monotonic()
    try:
        answer = {"result": await handle.wait(timeout=float(request.GET["timeout"]))}
    except (bgtasks.BgTasksError, TimeoutError) as error:
        answer = {"error": type(error).__name__}
    return JsonResponse({**answer, "seconds": time.monotonic() - began})


async def eager(request: HttpRequest) -> JsonResponse:
    """Report whether a task, and a bare asyncio task, runs before the call that creates it returns."""
    seen: list[str] = []

    async def note(what: str) -> None:
        seen.append(what)

    bgtasks.fire(note("fired"), name="eager?")
    bare = asyncio.create_task(note("bare"))
    answer = {"started_inside_fire": "fired" in seen, "factory_is_eager": "bare" in seen}
    await bare
    return JsonResponse(answer)


async def collect(request: HttpRequest) -> JsonResponse:
    """Run the garbage collector until it finds no more garbage."""
    return JsonResponse({"collected": sum(gc.collect() for _ in range(3))})
