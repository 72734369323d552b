"""The taskiq broker of the caller and the worker."""

import asyncio
import os

from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

from benchmarks.peers.protocol import note_start

place = os.environ["BENCHMARKS_TASKIQ"]
broker = ListQueueBroker(url=place, queue_name="queue").with_result_backend(RedisAsyncResultBackend(redis_url=place))


@broker.task
async def body(number: int, seconds: float) -> None:
    note_start(number)
    await asyncio.sleep(seconds)
