"""
The routing of the admin's WebSockets. In asgi.py:

    ProtocolTypeRouter({"http": django_application, "websocket": bgtasks.live.routing.application})

A project with WebSockets of its own adds `urlpatterns` to its own router.
"""

from __future__ import annotations

from channels.auth import AuthMiddlewareStack
from channels.routing import URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.urls import re_path

from . import PATH, mark_routed
from .consumers import LiveConsumer

__all__ = ["application", "urlpatterns"]

# The project may be served under any prefix.
urlpatterns = [re_path(rf"(^|/){PATH}$", LiveConsumer.as_asgi())]
application = AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter(urlpatterns)))

mark_routed()
