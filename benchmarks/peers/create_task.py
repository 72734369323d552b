"""A bare `asyncio.create_task` with a strong reference: nothing is stored."""

from __future__ import annotations

import asyncio

from benchmarks.harness import create_bare, strong_references
from benchmarks.peers.protocol import Answer, Request, answer, measure_system, note_start


async def measure(request: Request) -> Answer:
    fired = 0

    async def body(number: int) -> None:
        note_start(number)
        await asyncio.sleep(request.body_seconds)

    def fire(number: int) -> None:
        nonlocal fired
        fired += 1
        create_bare(body(number))

    return await measure_system(request, fire, lambda: 0 if strong_references else fired)


if __name__ == "__main__":
    answer(measure)
