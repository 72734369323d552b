"""The Procrastinate app of the caller and the worker."""

import asyncio
import os

import procrastinate

from benchmarks.peers.protocol import note_start

app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=os.environ["BENCHMARKS_PROCRASTINATE"]))


@app.task(name="body")
async def body(number: int, seconds: float) -> None:
    note_start(number)
    await asyncio.sleep(seconds)
