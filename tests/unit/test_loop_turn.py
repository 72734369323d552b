"""The journal's thread offers the event loop its turn. Another thread stands for the loop, and nothing else yields."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator

import pytest

from bgtasks.journal.loop_turn import LONGEST, LoopTurn


@pytest.fixture
def patient_interpreter() -> Iterator[None]:
    """The interpreter does not interrupt a computing thread for another one."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(60)
    yield
    sys.setswitchinterval(before)


class Other(threading.Thread):
    """Wants the interpreter from a given moment on."""

    def __init__(self) -> None:
        super().__init__()
        self.wants_a_turn = threading.Event()
        self.turns = 0
        self.start()

    def run(self) -> None:
        self.turns += self.wants_a_turn.wait(30)


def compute() -> None:
    end = time.thread_time() + 2 * LONGEST
    while time.thread_time() < end:
        pass


@pytest.mark.parametrize("looks", [True, False])
def test_a_waiting_thread_gets_its_turn_after_long_work(patient_interpreter: None, looks: bool) -> None:
    other = Other()
    turn = LoopTurn()
    turn.restart()

    other.wants_a_turn.set()
    for _ in range(50):  # On a busy machine one look may not be enough.
        compute()
        if looks:
            turn.offer()
        if other.turns:
            break

    assert other.turns == (1 if looks else 0)
    other.join()


def test_short_work_goes_on(patient_interpreter: None) -> None:
    other = Other()
    turn = LoopTurn()

    other.wants_a_turn.set()
    for _ in range(1000):
        turn.restart()
        turn.offer()

    assert other.turns == 0
    other.join()
