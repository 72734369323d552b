"""taskiq on Redis: in its memory when the call returns, a result at the end. By default two worker processes."""

from __future__ import annotations

import os

from benchmarks.peers.protocol import (
    REDIS,
    Answer,
    Request,
    answer,
    connect_redis,
    measure_system,
    program,
    wait_until_works,
    worker,
)

DATABASE = 12


async def measure(request: Request) -> Answer:
    client = connect_redis(DATABASE)
    os.environ["BENCHMARKS_TASKIQ"] = f"{REDIS}/{DATABASE}"
    from benchmarks.peers.taskiq_app import body, broker

    await broker.startup()
    command = [program("taskiq"), "worker", "benchmarks.peers.taskiq_app:broker", "--log-level", "ERROR"]
    if request.is_best:
        command += ["--workers", "1", "--max-async-tasks", "100"]

    async def fire(number: int) -> None:
        await body.kiq(number, request.body_seconds)

    try:
        with worker(*command) as process:
            await body.kiq(0, 0)
            await wait_until_works(process, lambda: client.dbsize() > 0 and not client.exists("queue"))
            client.flushdb()
            return await measure_system(request, fire, lambda: 0 if client.exists("queue") else client.dbsize())
    finally:
        await broker.shutdown()
        client.flushdb()


if __name__ == "__main__":
    answer(measure)
