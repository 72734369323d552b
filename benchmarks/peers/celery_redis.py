"""Celery on Redis: in its memory when the call returns, a result at the end. By default a process per core."""

from __future__ import annotations

import os

from benchmarks.peers.protocol import (
    REDIS,
    Answer,
    Request,
    answer,
    connect_redis,
    measure_system,
    wait_until_works,
    worker,
)

QUEUE, RESULTS = 13, 14


async def measure(request: Request) -> Answer:
    queue, results = connect_redis(QUEUE), connect_redis(RESULTS)
    os.environ["BENCHMARKS_CELERY"] = REDIS
    from benchmarks.peers.celery_app import body

    command = ["-m", "celery", "-A", "benchmarks.peers.celery_app", "worker", "--loglevel", "ERROR"]
    if request.is_best:
        command += ["--pool", "threads", "--concurrency", "100"]
    try:
        with worker(*command) as process:
            body.delay(0, 0)
            await wait_until_works(process, lambda: results.dbsize() > 0)
            results.flushdb()
            return await measure_system(
                request, lambda number: body.delay(number, request.body_seconds), results.dbsize, pause=0.02
            )
    finally:
        queue.flushdb()
        results.flushdb()


if __name__ == "__main__":
    answer(measure)
