"""The pages of the benchmarks: the admin, for large tables, and the views that are put under load."""

from __future__ import annotations

import asyncio
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import path

import bgtasks
from benchmarks.harness import create_bare


async def no_op(number: int, text: Any) -> None:
    await asyncio.sleep(0)


recorded_no_op = bgtasks.task(name="benchmark.view.no_op")(no_op)


async def without(request: HttpRequest) -> HttpResponse:
    return HttpResponse("done", headers={"Content-Length": "4"})


async def with_create_task(request: HttpRequest) -> HttpResponse:
    create_bare(no_op(1, "a"))
    return HttpResponse("done", headers={"Content-Length": "4"})


async def with_fire(request: HttpRequest) -> HttpResponse:
    bgtasks.fire(recorded_no_op, 1, "a")
    return HttpResponse("done", headers={"Content-Length": "4"})


urlpatterns = [
    path("admin/", admin.site.urls),
    path("without", without),
    path("create_task", with_create_task),
    path("fire", with_fire),
]
