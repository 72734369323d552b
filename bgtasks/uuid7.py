"""UUIDs of version 7 (RFC 9562), which the standard library provides from Python 3.14 on."""

from __future__ import annotations

import os
import random
from datetime import UTC, datetime, timedelta
from time import time_ns
from uuid import UUID

# A generator of our own, since a project may seed the shared one and would get the same ids again. Ids are not secret.
_random = random.Random()  # noqa: S311
os.register_at_fork(after_in_child=_random.seed)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_VERSION_AND_VARIANT = 0x7 << 76 | 0x2 << 62


def uuid7_int(nanoseconds: int) -> int:
    """
    Return the 128 bits of a new UUIDv7 for a moment in nanoseconds since the epoch.

    The 12 bits `rand_a` hold the fraction of the millisecond (RFC 9562, section 6.2, method 3). So the ids of a process
    sort by time, to a quarter of a microsecond, without a lock or a counter.
    """
    milliseconds, rest = divmod(nanoseconds, 1_000_000)
    return milliseconds << 80 | (rest << 12) // 1_000_000 << 64 | _VERSION_AND_VARIANT | _random.getrandbits(62)


def uuid7() -> UUID:
    """Return a new UUIDv7 for the current time."""
    return UUID(int=uuid7_int(time_ns()))


def lowest_uuid7(nanoseconds: int) -> UUID:
    """
    Return the UUIDv7 that sorts before all ids of a moment, in nanoseconds since the epoch, and of later ones.

    >>> lowest_uuid7(1_700_000_000_000_000_000)
    UUID('018bcfe5-6800-7000-8000-000000000000')
    """
    return UUID(int=nanoseconds // 1_000_000 << 80 | _VERSION_AND_VARIANT)


def first_id_of(moment: datetime) -> UUID:
    """
    Return the smallest id that a row of this moment, or later, can have. A naive moment is local time.

    >>> first_id_of(datetime(2026, 7, 1, 12, tzinfo=UTC)), first_id_of(datetime(1, 1, 1, tzinfo=UTC))
    (UUID('019f1d8c-e200-7000-8000-000000000000'), UUID('00000000-0000-7000-8000-000000000000'))
    """
    aware = moment if moment.tzinfo is not None else moment.astimezone()
    # In whole numbers: a float of seconds since the epoch is not exact.
    milliseconds = (aware - _EPOCH) // timedelta(milliseconds=1)
    return lowest_uuid7(max(milliseconds, 0) * 1_000_000)
