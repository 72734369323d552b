"""aiojobs: a scheduler with references to its tasks. Nothing is stored. By default 100 run at once."""

from __future__ import annotations

import asyncio

from aiojobs import Scheduler

from benchmarks.peers.protocol import Answer, Request, answer, measure_system, note_start


async def measure(request: Request) -> Answer:
    scheduler = Scheduler(limit=None, pending_limit=0) if request.is_best else Scheduler()
    finished = 0

    async def body(number: int) -> None:
        nonlocal finished
        note_start(number)
        await asyncio.sleep(request.body_seconds)
        finished += 1

    async def fire(number: int) -> None:
        await scheduler.spawn(body(number))

    try:
        return await measure_system(request, fire, lambda: finished)
    finally:
        await scheduler.close()


if __name__ == "__main__":
    answer(measure)
