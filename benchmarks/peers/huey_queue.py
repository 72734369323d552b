"""huey on SQLite (the row is committed when the call returns) or Redis (in its memory), a result at the end."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

from benchmarks.peers.protocol import (
    REDIS,
    Answer,
    Request,
    connect_redis,
    give,
    measure_system,
    program,
    take,
    wait_until_works,
    worker,
)

REDIS_DATABASE = 11
BEST_THREADS = {"sqlite": 8, "redis": 50}


async def measure(request: Request) -> Answer:
    from benchmarks.peers.huey_app import body, huey  # Reads the environment, which is set below.

    threads = BEST_THREADS[request.database] if request.is_best else 1
    command = [program("huey_consumer"), "benchmarks.peers.huey_app.huey", "-k", "thread", "-w", str(threads)]
    with worker(*command) as consumer:
        body(0, 0)
        await wait_until_works(consumer, lambda: huey.result_count() > 0)
        huey.storage.flush_results()
        return await measure_system(request, lambda number: body(number, request.body_seconds), huey.result_count)


if __name__ == "__main__":
    request = take()
    with tempfile.TemporaryDirectory() as folder:
        place = f"{REDIS}/{REDIS_DATABASE}"
        if request.database == "redis":
            connect_redis(REDIS_DATABASE)
        else:
            place = str(Path(folder) / "huey.sqlite3")
        os.environ["BENCHMARKS_HUEY"] = place
        found = asyncio.run(measure(request))
    give(found)
