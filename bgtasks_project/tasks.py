"""
The background tasks of the demo.

Mails and webhooks carry the id of their task, so that an arrival can be matched with its row.
"""

from __future__ import annotations

import asyncio
import csv
import json
import os
import time
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import httpx
from asgiref.sync import sync_to_async
from django.core.mail import EmailMessage
from django.db.models import Count
from django.dispatch import receiver
from django.utils import timezone

import bgtasks
from bgtasks.models import BackgroundTask
from bgtasks.signals import drained, lifespan_startup

from .models import Report, Subscriber

REPORTED_DAYS = 20

_http: httpx.AsyncClient | None = None  # One client per process, so that connections are reused.


@receiver(lifespan_startup)
async def open_http(**kwargs: object) -> None:
    global _http
    # The wait for a free connection has no timeout, since the receiver does not cause it.
    _http = httpx.AsyncClient(timeout=httpx.Timeout(10, pool=None))


# Not on `lifespan_shutdown`: during the drain tasks still deliver.
@receiver(drained)
async def close_http(**kwargs: object) -> None:
    global _http
    if _http is not None:
        await _http.aclose()
        _http = None


@bgtasks.task
async def send_welcome(subscriber_id: int) -> None:
    """Send a welcome mail. The task fails if the mail server refuses the address."""
    subscriber = await Subscriber.objects.aget(pk=subscriber_id)
    message = EmailMessage(
        subject="Welcome",
        body=f"Hello {subscriber.email},\n\nthank you for signing up.\n",
        to=[subscriber.email],
        headers={"X-Task-ID": str(bgtasks.current().id)},
    )
    # On a thread of the common pool: on the thread of the database a slow mail server would delay all queries.
    await sync_to_async(message.send, thread_sensitive=False)()


@bgtasks.task
async def deliver(url: str, topic: str, payload: Any) -> int:
    """Send a webhook and return the status of the answer. The task fails if it is not 2xx."""
    if _http is None:
        raise RuntimeError("Webhooks are delivered by the server only: its start opens the HTTP client.")
    headers = {"X-Task-ID": str(bgtasks.current().id), "X-Topic": topic, "Content-Type": "application/json"}
    # Not `json=`: httpx sends an empty body for None, which is the JSON `null`.
    response = await _http.post(url, content=json.dumps(payload), headers=headers)
    response.raise_for_status()
    return response.status_code


@bgtasks.task
async def make_report(report_id: int, seconds: float) -> int:
    """Count the sign-ups and tasks of each of the last days, and write a CSV file. Return the number of its rows."""
    report = await Report.objects.aget(pk=report_id)
    midnight = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    rows = []
    for ago in range(REPORTED_DAYS):
        day = midnight - timedelta(days=ago)
        in_day = {"created_at__gte": day, "created_at__lt": day + timedelta(days=1)}
        tasks = BackgroundTask.objects.filter(**in_day).order_by("status").values_list("status").annotate(Count("id"))
        by_status = {status: count async for status, count in tasks}
        signups = await Subscriber.objects.filter(**in_day).acount()
        rows.append([f"{day:%Y-%m-%d}", signups, sum(by_status.values()), by_status.get("FAILED", 0)])
        bgtasks.current().progress(ago + 1, REPORTED_DAYS, f"{day:%Y-%m-%d}")
        await asyncio.sleep(seconds / REPORTED_DAYS)  # In place of larger tables. A drain may cut the task short here.
    await asyncio.to_thread(_write_csv, report.path, ["day", "signups", "tasks", "failed"], rows)
    report.finished_at, report.row_count = timezone.now(), len(rows)
    await report.asave(update_fields=["finished_at", "row_count"])
    return len(rows)


def _write_csv(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    """Write the whole file or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    os.replace(unfinished, path)


@bgtasks.task
async def count_subscribers() -> int:
    """Run one query: a quick task."""
    return await Subscriber.objects.acount()


@bgtasks.task
async def wait(seconds: float) -> None:
    """Wait without blocking the event loop: a slow task."""
    await asyncio.sleep(seconds)


class ImportFailed(Exception):
    """A file that cannot be imported."""


@bgtasks.task
async def import_prices() -> int:
    """Fail at a faulty line in the file of a supplier."""
    lines = ["walnut;12.50", "cherry;14.20", "maple;n/a"]
    total = Decimal(0)
    for number, line in enumerate(lines, start=1):
        product, price = line.split(";")
        try:
            total += Decimal(price)
        except InvalidOperation as error:
            raise ImportFailed(f"prices.csv, line {number}: {price!r} is no price for {product}.") from error
    return len(lines)


@bgtasks.task
async def block(seconds: float) -> None:
    """Block the event loop, and so the whole server, which no async function should."""
    time.sleep(seconds)  # noqa: ASYNC251  # On purpose.
