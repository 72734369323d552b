"""The Celery app of the caller and the worker."""

import os
import time

from celery import Celery

from benchmarks.peers.protocol import note_start

place = os.environ["BENCHMARKS_CELERY"]
app = Celery("benchmark", broker=f"{place}/13", backend=f"{place}/14")
app.conf.update(worker_hijack_root_logger=False, broker_connection_retry_on_startup=True)


@app.task(name="body")
def body(number: int, seconds: float) -> None:
    note_start(number)
    time.sleep(seconds)
