"""The huey of the caller and the consumer: in an SQLite file or on Redis, by the environment."""

import os
import time

from huey import Huey, RedisHuey, SqliteHuey

from benchmarks.peers.protocol import note_start

place = os.environ["BENCHMARKS_HUEY"]
huey: Huey = RedisHuey("benchmark", url=place) if place.startswith("redis:") else SqliteHuey(filename=place)


@huey.task()
def body(number: int, seconds: float) -> bool:
    """Return a value, since huey records the end of a task by its result only."""
    note_start(number)
    time.sleep(seconds)
    return True
