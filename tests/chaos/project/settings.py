"""Settings of the harness's servers. The environment has their database and folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

FOLDER = Path(os.environ["CHAOS_FOLDER"])

SECRET_KEY = "only-for-tests"
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = ["bgtasks", "tests.chaos.project"]
MIDDLEWARE: list[str] = []
ROOT_URLCONF = "tests.chaos.project.urls"
DATABASES = {"default": json.loads(os.environ["CHAOS_DATABASE"])}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True

# As short as a loaded machine bears. There are few slots, so that some tasks wait in the table.
BGTASKS: dict[str, object] = {
    "HEARTBEAT": 0.3,
    "DEAD_AFTER": float(os.environ.get("CHAOS_DEAD_AFTER", "2")),
    "POLL_INTERVAL": 0.05,
    "WRITE_TIMEOUT": 2,
    "DRAIN_TIMEOUT": 0.5,
    "CANCEL_GRACE": 0.5,
    "FLUSH_TIMEOUT": 1,
    "MAX_RUNNING": 8,
    "SPOOL_PATH": FOLDER / "spool",
}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {process} {name}: {message}", "style": "{"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {"bgtasks": {"handlers": ["stderr"], "level": "INFO"}},
}
