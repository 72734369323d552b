"""The allowance of a rate under random claims of several processes: no period has more calls than the rate."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bgtasks.definition.rate import Rate
from bgtasks.journal import rates
from bgtasks.journal.rates import LATENESS, Allowance, Bundle, try_to_lock, window_of
from bgtasks.models import RateLimit


@dataclass
class World:
    """Processes that claim from one limiter, each with a monotonic clock. The database has the common clock."""

    rate: Rate
    now: float = 1_800_000_000.0
    own: dict[int, list[Bundle]] = field(default_factory=dict)
    ends: list[tuple[float, Bundle]] = field(default_factory=list)  # When a task ends, by the database's clock.
    calls: list[float] = field(default_factory=list)  # When each call reached the protected service.
    usual: float | None = None  # Seconds that tasks take, as far as the processes know.

    def advance(self, seconds: float) -> None:
        target = self.now + seconds
        for at, bundle in sorted(self.ends, key=lambda end: end[0]):
            if at <= target:
                self.now = at
                bundle.give_back()
        self.ends = [(at, bundle) for at, bundle in self.ends if at > target]
        self.now = target

    def claim(self, process: int, wanted: int, length: float, late: float) -> int:
        """
        Start tasks; return their number.

        Args:
            wanted: the largest number.
            length: of each task, in seconds.
            late: the part of its length after which its call arrives.
        """
        own = [bundle for bundle in self.own.get(process, []) if not bundle.is_over(self.rate)]
        allowance = Allowance("default", "function f", self.rate, self.now, own, usual=self.usual)
        count = min(wanted, allowance.count)
        bundle = allowance.use(count)
        self.own[process] = [*own, bundle] if count else own
        for _ in range(count):
            self.ends.append((self.now + length, bundle))
            self.calls.append(self.now + late * min(length, LATENESS, self.rate.seconds))
        return count


STEPS = st.lists(
    st.tuples(
        st.floats(0, 3, allow_nan=False),  # Seconds that pass.
        st.integers(0, 2),  # The process that claims.
        st.integers(0, 9),  # The number that it wants.
        st.floats(0.001, 4),  # Seconds that a task takes.
        st.floats(0, 1),  # The part of them after which its call arrives.
    ),
    min_size=1,
    max_size=40,
)


@pytest.mark.django_db
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(1, 6), seconds=st.sampled_from([0.3, 1.0, 2.5]), steps=STEPS)
def test_no_period_has_more_calls_than_the_rate_says(
    monkeypatch: pytest.MonkeyPatch, count: int, seconds: float, steps: list[tuple[float, int, int, float, float]]
) -> None:
    world = World(Rate(count, seconds))
    monkeypatch.setattr(rates, "time", SimpleNamespace(monotonic=lambda: world.now - 1_000_000))
    with transaction.atomic():
        assert try_to_lock("default", "function f")
        for passed, process, wanted, length, late in steps:
            world.advance(passed)
            world.claim(process, wanted, length, late)
        transaction.set_rollback(True)
    calls = sorted(world.calls)
    assert all(later - earlier >= seconds for earlier, later in zip(calls, calls[count:], strict=False))


@pytest.mark.django_db
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(1, 6), length=st.floats(0.001, 3))
def test_what_the_rate_allows_is_used(monkeypatch: pytest.MonkeyPatch, count: int, length: float) -> None:
    """No start waits longer than the period after the end, or the first second, of the tasks before."""
    world = World(Rate(count, 1.0))
    monkeypatch.setattr(rates, "time", SimpleNamespace(monotonic=lambda: world.now))
    with transaction.atomic():
        assert try_to_lock("default", "function f")
        for turn in range(5):
            world.usual = length if turn else None
            assert world.claim(0, 99, length, 1.0) == count
            assert world.claim(1, 99, length, 1.0) == 0
            world.advance(min(length, LATENESS) + window_of(world.rate) + 1e-3)
        transaction.set_rollback(True)


@pytest.mark.django_db
def test_the_row_stays_small() -> None:
    rate = Rate(1000, 1.0)
    with transaction.atomic():
        assert try_to_lock("default", "key k")
        for second in range(50):
            Allowance("default", "key k", rate, 1e9 + second, []).use(3)
    assert len(RateLimit.objects.get().starts) <= 3
