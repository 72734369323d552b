"""The three forms of a moment, with and without USE_TZ, west and east of UTC."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from django.test import override_settings
from django.utils import timezone

from bgtasks.models.moments import parse_moment, stamp, stamp_now, to_datetime

NOON = datetime(2026, 7, 1, 12, 0, 0, 250_000, UTC)
ZONES = {"America/New_York": -4, "Asia/Tokyo": 9}


@pytest.fixture(params=ZONES)
def local_noon(request: pytest.FixtureRequest) -> Iterator[datetime]:
    """Noon in UTC as a column has it with USE_TZ=False. Another zone is active, as a request may have activated it."""
    with override_settings(USE_TZ=False, TIME_ZONE=request.param), timezone.override("Australia/Sydney"):
        yield (NOON + timedelta(hours=ZONES[request.param])).replace(tzinfo=None)


def test_naive_local_time_is_written_as_utc_and_read_back(local_noon: datetime) -> None:
    text = stamp(NOON.timestamp())

    assert text == "2026-07-01T12:00:00.250000+00:00"
    assert parse_moment(text) == to_datetime(NOON.timestamp()) == local_noon


def test_a_text_without_an_offset_is_local_time_without_use_tz(local_noon: datetime) -> None:
    """Earlier versions wrote verdicts like that."""
    assert parse_moment(local_noon.isoformat()) == local_noon


def test_now_is_the_same_in_a_history_and_in_a_column(local_noon: datetime) -> None:
    read = parse_moment(stamp_now())

    assert read is not None
    assert abs(timezone.now() - read) < timedelta(seconds=10)


@pytest.mark.parametrize("text", ["2026-07-01T12:00:00.25", "2026-07-01T12:00:00.25Z", "2026-07-01T21:00:00.25+09:00"])
def test_with_use_tz_moments_are_aware(text: str) -> None:
    assert parse_moment(text) == to_datetime(NOON.timestamp()) == NOON


@pytest.mark.parametrize("value", [None, 5, "noon", "2026-02-30T00:00:00Z"])
def test_other_values_are_not_moments(local_noon: datetime, value: object) -> None:
    assert parse_moment(value) is None


@pytest.mark.parametrize("use_tz", [True, False])
@pytest.mark.parametrize(
    ("zone", "text"), [("Asia/Tokyo", "9999-12-31T23:59:59Z"), ("America/New_York", "0001-01-01T00:00:00Z")]
)
def test_a_moment_without_local_time_is_none(zone: str, text: str, use_tz: bool) -> None:
    with override_settings(USE_TZ=use_tz, TIME_ZONE=zone):
        assert parse_moment(text) is None
