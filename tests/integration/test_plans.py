"""The rows that statements read. Statistics of an empty or a full table must not mislead the database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connection

from bgtasks.models import BackgroundTask
from tests import tables

LIVE = 20
FINISHED = 4000


both_statistics = pytest.mark.parametrize("analyzed", ["empty", "full"])


@pytest.fixture
def table(transactional_db: None) -> Iterator[tables.Table]:
    """The table, empty, as it was when the statistics were taken."""
    with tables.frozen_statistics():
        tables.analyze()
        yield tables.Table(LIVE)


def fill(table: tables.Table, analyzed: str, finished: int, waiting: int = 0) -> None:
    table.fill(finished, waiting)
    if analyzed == "full":
        tables.analyze()


@both_statistics
def test_no_question_reads_the_finished_rows(table: tables.Table, analyzed: str) -> None:
    """The work depends on the number of matching rows, not on the size of the table."""
    fill(table, analyzed, FINISHED)
    scan = tables.count_work(read_all_rows)
    assert scan >= FINISHED  # The count of work shows a read of all rows.

    work = {name: tables.count_work(ask) for name, ask in table.questions.items()}

    assert {name: count for name, count in work.items() if count > scan / 2} == {}, f"{work}, all rows: {scan}"


@both_statistics
def test_a_claim_reads_no_more_than_it_takes(table: tables.Table, analyzed: str) -> None:
    """The number of waiting rows does not matter."""
    fill(table, analyzed, finished=FINISHED, waiting=FINISHED)
    scan = tables.count_work(read_all_rows)

    assert tables.count_work(table.claim) <= scan / 2


@both_statistics
def test_the_names_are_asked_for_one_by_one(table: tables.Table, analyzed: str) -> None:
    """A search compares its term with each name, not with each row."""
    fill(table, analyzed, FINISHED)
    scan = tables.count_work(read_all_rows)
    found: list[str] = []

    work = tables.count_work(lambda: found.extend(BackgroundTask.objects.find_names(100)))

    assert found == sorted(set(BackgroundTask.objects.values_list("name", flat=True)))
    assert len(found) > 10
    # With the statistics of an empty table MariaDB reads the whole index once, and PostgreSQL sometimes all rows twice:
    # still not once for each name.
    assert work <= (scan / 2 if analyzed == "full" or connection.vendor == "sqlite" else 3 * scan)
    assert BackgroundTask.objects.find_names(3) == found[:3]


def read_all_rows() -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {BackgroundTask._meta.db_table} WHERE error_message = 'no index on this'")
