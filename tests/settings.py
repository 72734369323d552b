"""Settings of the tests. The environment chooses the database and the variations of the server tests."""

from __future__ import annotations

import os
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.databases import settings_for

_folder = Path(os.environ.get("TESTS_DB_DIR") or tempfile.mkdtemp(prefix="bgtasks-tests-"))

SECRET_KEY = "only-for-tests"
DEBUG = False
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = [
    "bgtasks",
    "tests.app",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]
if os.environ.get("TESTS_HANGS"):
    INSTALLED_APPS.append("tests.app.hanging")
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
if os.environ.get("TESTS_SYNC_MIDDLEWARE"):
    MIDDLEWARE.append("tests.app.middleware.SyncOnlyMiddleware")
ROOT_URLCONF = "tests.app.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
DATABASES = {"default": settings_for(_folder)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "static/"
USE_TZ = "TESTS_TIME_ZONE" not in os.environ
if not USE_TZ:  # Moments are naive, in this zone.
    TIME_ZONE = os.environ["TESTS_TIME_ZONE"]
if offset := os.environ.get("TESTS_CLOCK_OFFSET"):  # Seconds by which the clock of this process is wrong.
    import time_machine

    time_machine.travel(datetime.now(UTC) + timedelta(seconds=float(offset)), tick=True).start()

if prefix := os.environ.get("TESTS_REDIS_PREFIX"):  # For the names in Redis that a test's servers share.
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": os.environ.get("TESTS_LAYER", "channels_redis.core.RedisChannelLayer"),
            # By default redis-py gives up a read after 5 s, just as long as channels-redis waits for a message. One
            # that arrives at that moment is lost.
            "CONFIG": {
                "hosts": [
                    {
                        "address": os.environ["TESTS_REDIS"],
                        "socket_timeout": float(os.environ.get("TESTS_REDIS_TIMEOUT", "30")),
                    }
                ],
                "prefix": prefix,
            },
        }
    }
elif os.environ.get("TESTS_LIVE"):
    CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}

BGTASKS: dict[str, object] = {
    "HEARTBEAT": 0.5,
    "DEAD_AFTER": float(os.environ.get("TESTS_DEAD_AFTER", "5")),
    "POLL_INTERVAL": float(os.environ.get("TESTS_POLL_INTERVAL", "0.05")),
    "BLOCKED_AFTER": float(os.environ.get("TESTS_BLOCKED_AFTER", "1")),
    "SPOOL_PATH": os.environ.get("TESTS_SPOOL_PATH", str(_folder / "spool")),
    "DRAIN_TIMEOUT": float(os.environ.get("TESTS_DRAIN_TIMEOUT", "3")),
    "CANCEL_GRACE": 1,
    "MAX_RUNNING": int(os.environ.get("TESTS_MAX_RUNNING", "500")),
}
