from __future__ import annotations

import random
import threading
import time
from datetime import UTC, datetime, timedelta
from uuid import RFC_4122, UUID

from bgtasks.uuid7 import first_id_of, uuid7, uuid7_int


def test_version_variant_and_time() -> None:
    before = time.time_ns() // 1_000_000
    made = uuid7()
    assert (made.version, made.variant) == (7, RFC_4122)
    assert before <= made.int >> 80 <= time.time_ns() // 1_000_000


def test_sorts_by_time_within_a_millisecond() -> None:
    start = 1_700_000_000_000_000_000
    moments = [start + step * 250 for step in range(4000)]
    numbers = [uuid7_int(moment) >> 64 for moment in moments]
    assert numbers == sorted(numbers)
    assert len(set(numbers)) > 3900
    assert all(UUID(int=uuid7_int(moment)).version == 7 for moment in moments)


def test_a_seeded_project_and_many_threads_get_different_ids() -> None:
    made: list[UUID] = []

    def make() -> None:
        for _ in range(2000):
            random.seed(1)
            made.append(uuid7())

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 8000


def test_the_first_id_of_a_moment_is_that_of_its_millisecond() -> None:
    """Without the rounding of a float; also for a naive moment, which is local time."""
    for milliseconds in range(1_700_000_000_000, 1_700_000_001_000):
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
        assert first_id_of(moment).int >> 80 == milliseconds
        assert first_id_of(moment.astimezone().replace(tzinfo=None)) == first_id_of(moment)
