"""The journal's thread lets the event loop in: here another thread stands for that, and nothing else makes it yield."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator

import pytest

from bgtasks.runtime.stretch import LONGEST, Stretch


@pytest.fixture
def patient_interpreter() -> Iterator[None]:
    """A thread that computes is not interrupted for another one."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(60)
    yield
    sys.setswitchinterval(before)


def compute() -> None:
    end = time.thread_time() + 2 * LONGEST
    while time.thread_time() < end:
        pass


@pytest.mark.parametrize("looks", [True, False])
def test_who_waits_gets_its_turn_in_a_long_stretch(patient_interpreter: None, looks: bool) -> None:
    is_its_turn = threading.Event()
    had_its_turn: list[bool] = []
    other = threading.Thread(target=lambda: had_its_turn.append(is_its_turn.wait(30)))
    other.start()
    stretch = Stretch()
    stretch.begin()

    is_its_turn.set()
    for _ in range(50):  # The machine may be busy with others: one look need not be enough.
        compute()
        if looks:
            stretch.look()
        if had_its_turn:
            break

    assert had_its_turn == ([True] if looks else [])
    other.join()


def test_a_short_stretch_goes_on(patient_interpreter: None) -> None:
    is_its_turn = threading.Event()
    had_its_turn: list[bool] = []
    other = threading.Thread(target=lambda: had_its_turn.append(is_its_turn.wait(30)))
    other.start()
    stretch = Stretch()

    is_its_turn.set()
    for _ in range(1000):
        stretch.begin()
        stretch.look()

    assert had_its_turn == []
    other.join()
