"""The last 7 days, added up by function: what several pages need, and what changes little within a minute."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from .. import rollups
from .kept import Kept

WEEK = timedelta(days=7)
PARTS = ("statuses", "took", "failed")


def _read(using: str) -> dict[str, rollups.Total]:
    return rollups.total_by_name(rollups.read(using, rollups.TWO_HOURS, timezone.now(), WEEK), PARTS)


totals_of_week = Kept(60.0, _read)
