"""Announces the end of a process to the project's receivers, within a time limit."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from django.dispatch import Signal

from ..log import log

PATIENCE = 1.0  # Seconds beyond the deadline, for receivers that clean up.


async def announce(signal: Signal, name: str, sender: type, deadline: float, **details: Any) -> None:
    """
    Send a signal of the end. A receiver that raises or hangs does not keep the process from ending.

    Receivers that are not done PATIENCE after the deadline are cancelled. A plain `def` receiver cannot be cancelled:
    it goes on in its thread.

    Args:
        deadline: of the drain, as `time.monotonic()` counts.
        details: the keywords of the signal.
    """
    patience = max(deadline - time.monotonic(), 0) + PATIENCE
    answers: list[tuple[Any, Any]] = []
    try:
        async with asyncio.timeout(patience):
            answers = await signal.asend_robust(sender, **details)
    except TimeoutError:
        message = "The receivers of %s took longer than %.1f s; the process ends without them."
        log(logging.ERROR, message, name, patience)
    for receiver, answer in answers:
        if isinstance(answer, Exception):
            log(logging.ERROR, "At shutdown %r failed.", receiver, exc_info=answer)
