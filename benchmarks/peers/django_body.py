"""The task of the peers that are Django apps."""

import asyncio

from django.tasks import task

from benchmarks.peers.protocol import note_start


@task
async def body(number: int, seconds: float) -> None:
    note_start(number)
    await asyncio.sleep(seconds)
