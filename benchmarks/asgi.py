"""The ASGI application of `benchmarks.view`."""

from __future__ import annotations

from django.core.asgi import get_asgi_application

from bgtasks.lifespan import Lifespan

application = Lifespan(get_asgi_application())
