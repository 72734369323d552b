from __future__ import annotations

import contextvars
import threading
import time

from bgtasks.process.record import Record
from bgtasks.status import Status


def make_record() -> Record:
    return Record(5, "name", None, (), {}, None, contextvars.Context(), (Status.READY, time.time(), 0, "fired"))


def test_only_one_of_many_threads_takes_the_token() -> None:
    for _ in range(200):
        record = make_record()
        record.issue_token()
        barrier = threading.Barrier(4)
        taken: list[bool] = []

        def take(record: Record = record, barrier: threading.Barrier = barrier, taken: list[bool] = taken) -> None:
            barrier.wait()
            taken.append(record.take())

        threads = [threading.Thread(target=take) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(taken) == [False, False, False, True]


def test_a_record_without_token_cannot_be_taken() -> None:
    assert not make_record().take()


def test_a_waiter_is_woken_whether_it_comes_before_the_end_or_after() -> None:
    record = make_record()
    woken: list[str] = []
    record.when_finished(lambda: woken.append("before"))
    assert woken == []
    record.history.append((Status.CANCELLED, time.time(), 0, "asked"))
    record.wake_waiters()
    record.when_finished(lambda: woken.append("after"))
    assert woken == ["before", "after"]
