"""
The ASGI application: `uvicorn bgtasks_project.asgi:application --timeout-graceful-shutdown 5`.

`Lifespan` is outermost: it hears from the server when to drain. Without `--timeout-graceful-shutdown` one slow request
would hold up the drain for as long as it lasts.
"""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bgtasks_project.settings")
django_application = get_asgi_application()

# All need the settings, which the line above has loaded.
from channels.routing import ProtocolTypeRouter  # noqa: E402
from django.conf import settings  # noqa: E402
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler  # noqa: E402

from bgtasks.lifespan import Lifespan  # noqa: E402
from bgtasks.live.routing import application as live_admin  # noqa: E402

# Only `runserver` serves the admin's styles by itself. In production a web server or WhiteNoise does.
http_application = ASGIStaticFilesHandler(django_application) if settings.DEBUG else django_application
application = Lifespan(ProtocolTypeRouter({"http": http_application, "websocket": live_admin}))
