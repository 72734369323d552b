"""bgtasks: each state of each task is recorded within milliseconds. By default 500 run at once."""

from __future__ import annotations

import asyncio

from benchmarks.harness import Rows, serve, use_database
from benchmarks.peers.protocol import Answer, Request, give, measure_system, note_start, take


async def measure(request: Request) -> Answer:
    import bgtasks

    @bgtasks.task(name="benchmark.peers.body")
    async def body(number: int, seconds: float) -> None:
        note_start(number)
        await asyncio.sleep(seconds)

    rows = Rows()

    def count_finished() -> int:
        # The memory of this process first, which disturbs nothing; then the rows, which count.
        return 0 if bgtasks.pending_task_count() else rows.count("status = 'SUCCESSFUL'")

    try:
        async with serve(**({"MAX_RUNNING": request.tasks} if request.is_best else {})):
            return await measure_system(
                request, lambda number: bgtasks.fire(body, number, request.body_seconds), count_finished
            )
    finally:
        rows.close()


if __name__ == "__main__":
    request = take()
    with use_database(request.database):
        found = asyncio.run(measure(request))
    give(found)
