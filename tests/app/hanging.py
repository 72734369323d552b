"""An app whose receiver of the signal that TESTS_HANGS names never returns: a coroutine, or with TESTS_HANGS_SYNC."""

from __future__ import annotations

import asyncio
import os
import time

from bgtasks import signals


async def hang(**kwargs: object) -> None:
    await asyncio.sleep(3600)


def hang_in_thread(**kwargs: object) -> None:
    time.sleep(3600)


signal = getattr(signals, os.environ["TESTS_HANGS"])
signal.connect(hang_in_thread if os.environ.get("TESTS_HANGS_SYNC") else hang)
