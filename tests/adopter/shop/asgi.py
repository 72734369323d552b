import os

from django.core.asgi import get_asgi_application

from bgtasks.lifespan import Lifespan

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

application = Lifespan(get_asgi_application())
