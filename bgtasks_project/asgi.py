"""
The ASGI application: `uvicorn bgtasks_project.asgi:application --timeout-graceful-shutdown 5`.

`Lifespan` is outermost, since the server notifies it when to drain. Without `--timeout-graceful-shutdown` a single slow
request would delay the drain until it ends.
"""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bgtasks_project.settings")
django_application = get_asgi_application()

# These imports need the settings, which the line above has loaded.
from channels.routing import ProtocolTypeRouter  # noqa: E402
from django.conf import settings  # noqa: E402
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler  # noqa: E402

from bgtasks.lifespan import Lifespan  # noqa: E402
from bgtasks.live.routing import application as live_admin  # noqa: E402

# Only `runserver` serves the admin's styles by itself. In production a web server or WhiteNoise does.
http_application = ASGIStaticFilesHandler(django_application) if settings.DEBUG else django_application
application = Lifespan(ProtocolTypeRouter({"http": http_application, "websocket": live_admin}))
