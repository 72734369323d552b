"""Settings of the demo. Every value that a deployment changes comes from the environment."""

from __future__ import annotations

from pathlib import Path

from environs import Env

env = Env()

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = Path(env.str("DEMO_VAR_DIR", str(BASE_DIR / "var")))
VAR_DIR.mkdir(parents=True, exist_ok=True)

DEBUG = env.bool("DEMO_DEBUG", True)
SECRET_KEY = env.str("DEMO_SECRET_KEY", "only-for-the-demo" if DEBUG else "")
ALLOWED_HOSTS = env.list("DEMO_ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"])

INSTALLED_APPS = [
    "bgtasks",
    "bgtasks_project",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]

ROOT_URLCONF = "bgtasks_project.urls"
ASGI_APPLICATION = "bgtasks_project.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": VAR_DIR / "demo.sqlite3",
        # Recommended by the checks of bgtasks on SQLite: writers queue instead of failing, readers never wait.
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL;PRAGMA synchronous=NORMAL;",
        },
    }
}
# For the live pages of the admin. In memory it reaches only this process; several processes need channels-redis.
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

LANGUAGE_CODE = "en-us"
TIME_ZONE = env.str("DEMO_TIME_ZONE", "UTC")
USE_TZ = True

STATIC_URL = "static/"

if env.str("DEMO_SMTP_HOST", ""):
    EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    EMAIL_HOST = env.str("DEMO_SMTP_HOST")
    EMAIL_PORT = env.int("DEMO_SMTP_PORT", 25)
    EMAIL_HOST_USER = env.str("DEMO_SMTP_USER", "")
    EMAIL_HOST_PASSWORD = env.str("DEMO_SMTP_PASSWORD", "")
    EMAIL_USE_TLS = env.bool("DEMO_SMTP_TLS", False)
    EMAIL_TIMEOUT = 10
else:
    EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
    EMAIL_FILE_PATH = VAR_DIR / "mail"
DEFAULT_FROM_EMAIL = env.str("DEMO_FROM_EMAIL", "demo@example.com")

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"format": "{asctime} {levelname} {name}: {message}", "datefmt": "%H:%M:%S", "style": "{"},
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {
        "bgtasks": {"handlers": ["console"], "level": "INFO", "propagate": False},
        "django": {"handlers": ["console"], "level": "INFO", "propagate": False},
    },
}

BGTASKS: dict[str, object] = {
    "DRAIN_TIMEOUT": env.float("DEMO_DRAIN_TIMEOUT", 10.0),
    "RELEASE": env.str("DEMO_RELEASE", "demo"),
}

DEMO_MAX_BODY_BYTES = 200 * 1024  # Of the JSON of a request. As ASCII it may still exceed the limit of a task: 400.
DEMO_REPORT_SECONDS = env.float("DEMO_REPORT_SECONDS", 5.0)  # The duration of a report, unless the request gives one.
DEMO_REPORT_DIR = VAR_DIR / "reports"
