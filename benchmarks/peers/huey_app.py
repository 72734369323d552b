"""The huey that the caller and the consumer share: in an SQLite file or on Redis, as the environment says."""

import os
import time

from huey import Huey, RedisHuey, SqliteHuey

from benchmarks.peers.protocol import note_start

place = os.environ["BENCHMARKS_HUEY"]
huey: Huey = RedisHuey("benchmark", url=place) if place.startswith("redis:") else SqliteHuey(filename=place)


@huey.task()
def body(number: int, seconds: float) -> bool:
    """Return something: huey records no other end of a task."""
    note_start(number)
    time.sleep(seconds)
    return True
