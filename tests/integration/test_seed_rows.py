"""The invented rows for measuring pages: their ledger balances, and their rollups agree with them."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest
from django.utils import timezone

from benchmarks.invented import FUNCTIONS
from benchmarks.pages import FUNCTION, PER_PAGE
from benchmarks.seed_rows import Seeder, beat
from bgtasks.conf import get_settings
from bgtasks.models import BackgroundTask, Drain, Process
from bgtasks.models.moments import parse_moment
from bgtasks.reports import rollups
from bgtasks.reports.audit import Auditor
from bgtasks.status import Status

pytestmark = pytest.mark.django_db


def test_a_seeded_database_passes_the_audit() -> None:
    written = []

    seeded = Seeder("default").seed(2000, 200, written.append)

    audit = Auditor("default", get_settings()).audit()
    assert audit.problems == []
    assert (audit.unaccounted, audit.rows, sum(written)) == (0, 2000, 2000)
    assert (seeded.finished, seeded.live) == (1800, 200)
    assert audit.by_status["RUNNING"] + audit.by_status["READY"] == 200
    assert audit.by_status["SUCCESSFUL"] > 1500
    assert audit.by_status["FAILED"] > 5
    assert audit.being_rescued > 0
    assert audit.gone > 0


def test_histories_have_moments_that_the_admin_reads() -> None:
    Seeder("default").seed(200, 50)

    entries = [entry for history in BackgroundTask.objects.values_list("transitions", flat=True) for entry in history]
    assert len(entries) > 250
    assert [entry["at"] for entry in entries if parse_moment(entry["at"]) is None] == []
    places = BackgroundTask.objects.filter(await_place__isnull=False).values_list("await_place", flat=True)
    assert [place["since"] for place in places if parse_moment(place["since"]) is None] == []


def test_the_rollups_are_those_of_the_rows() -> None:
    Seeder("default").seed(3000, 0)

    now = timezone.now()
    stretches = rollups.read("default", rollups.TWO_HOURS, now, timedelta(days=7))
    since = stretches[0].starts_at
    totals = rollups.total_by_name(stretches)
    rows = BackgroundTask.objects.filter(finished_at__gte=since).values_list("name", "status")
    found: dict[str, Counter[str]] = {}
    for name, status in rows:
        found.setdefault(name, Counter())[status] += 1
    assert {name: dict(total.statuses) for name, total in totals.items()} == {
        name: dict(counts) for name, counts in found.items()
    }


def test_no_process_would_start_what_waits() -> None:
    Seeder("default").seed(500, 125)

    names = set(BackgroundTask.objects.waiting().values_list("name", flat=True))
    assert names <= {function.name for function in FUNCTIONS}
    assert len(names) > 3


def test_what_failed_can_be_grouped_and_has_a_traceback() -> None:
    Seeder("default").seed(2000, 0)

    failed = BackgroundTask.objects.filter(status=Status.FAILED)
    assert len({row.error_fingerprint for row in failed}) > 3
    assert all(row.traceback.startswith("Traceback (most recent call last):\n") for row in failed)
    assert all(row.error_type in row.traceback for row in failed)


@pytest.mark.parametrize("rows", [1000, 3000])
def test_a_sample_fills_a_page_of_each_list(rows: int) -> None:
    """The size of the table has no effect, so the compared pages show the same amount."""
    Seeder("default").seed(rows, 200, sample=800, failing=FUNCTION)

    tasks = BackgroundTask.objects.filter(created_at__gt=timezone.now() - timedelta(days=7))
    process = Process.objects.filter(host="web-1", state=Process.State.ALIVE).latest("pk")
    lists = {
        **{status: tasks.filter(status=status) for status in set(Status) - {Status.READY}},
        "failures of a function": tasks.filter(name=FUNCTION, status=Status.FAILED),
        "a part of a name": tasks.filter(name__contains="bounces"),
        "a queue": tasks.filter(queue_name="reports"),
        "a process": tasks.filter(process=process.pk),
    }
    assert {name: count for name, found in lists.items() if (count := found.count()) <= PER_PAGE} == {}
    assert BackgroundTask.objects.count() == rows


def test_drains_have_courses_that_end_at_nothing() -> None:
    Seeder("default").seed(500, 0)

    for drain in Drain.objects.all():
        assert drain.course[0] == [0.0, drain.running_at_start]
        assert drain.course[-1][1] == 0
    assert Drain.objects.count() > 30


def test_processes_that_beat_seem_alive() -> None:
    seeded = Seeder("default").seed(200, 50)
    Process.objects.update(beat_at=timezone.now() - timedelta(hours=1))

    beat("default", seeded.living)

    up = Process.objects.filter(pk__in=seeded.living, beat_at__gt=timezone.now() - timedelta(minutes=1))
    assert up.count() == len(seeded.living) == 4


def test_the_same_seed_makes_the_same_past() -> None:
    pasts = []
    for _ in range(2):
        Seeder("default", seed=7).seed(300, 0)
        pasts.append(Counter(BackgroundTask.objects.values_list("name", "error_type", "kwargs__order_id")))
        BackgroundTask.objects.all().delete()

    assert pasts[0] == pasts[1]
    assert pasts[0].total() == 300
