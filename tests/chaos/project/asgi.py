"""The ASGI application of the servers."""

from __future__ import annotations

from django.core.asgi import get_asgi_application

from bgtasks.lifespan import Lifespan

application = Lifespan(get_asgi_application())
