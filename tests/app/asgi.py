"""The ASGI application of the test project, as the environment configures it."""

from __future__ import annotations

import asyncio
import os

from django.core.asgi import get_asgi_application

from bgtasks.lifespan import Lifespan
from bgtasks.signals import drained, lifespan_startup

application = get_asgi_application()
if os.environ.get("TESTS_LIVE"):  # The admin for browsers: with static files and the push.
    from channels.routing import ProtocolTypeRouter
    from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler

    from bgtasks.live import consumers
    from bgtasks.live.routing import application as live_admin

    consumers.CHECK_EVERY = float(os.environ.get("TESTS_CHECK_EVERY") or consumers.CHECK_EVERY)
    entries = {"http": ASGIStaticFilesHandler(application), "websocket": live_admin}
    if os.environ.get("TESTS_UNWRAPPED") == "entry":
        entries["lifespan"] = Lifespan()
    application = ProtocolTypeRouter(entries)
if not os.environ.get("TESTS_UNWRAPPED"):
    application = Lifespan(application)


async def use_eager_factory(**kwargs: object) -> None:
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)


async def log_drained(**kwargs: object) -> None:
    import bgtasks

    print(f"drained with {bgtasks.pending_task_count()} pending", flush=True)


if os.environ.get("TESTS_EAGER"):
    lifespan_startup.connect(use_eager_factory)
drained.connect(log_drained)
