"""Settings of a project that uses bgtasks. SHOP_DB chooses the database of its tests."""

import os
import sys
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
KIND = os.environ["SHOP_DB"]

SECRET_KEY = "only-for-tests"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "bgtasks", "shop"]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
ROOT_URLCONF = "shop.urls"
ASGI_APPLICATION = "shop.asgi.application"
ALLOWED_HOSTS = ["*"]
STATIC_URL = "static/"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LOGGING = {"version": 1, "disable_existing_loggers": False, "loggers": {"bgtasks": {"level": "CRITICAL"}}}

if KIND in ("postgresql", "mariadb"):
    DATABASES = {
        "default": {
            "ENGINE": f"django.db.backends.{'postgresql' if KIND == 'postgresql' else 'mysql'}",
            "NAME": os.environ["SHOP_DB_NAME"],
            "HOST": os.environ.get("TESTS_DB_HOST", "127.0.0.1"),
            "USER": os.environ.get("TESTS_DB_USER", "postgres" if KIND == "postgresql" else "root"),
            "PASSWORD": os.environ.get("TESTS_DB_PASSWORD", ""),
        }
    }
else:
    DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3"}}
    if KIND == "file":
        DATABASES["default"]["TEST"] = {"NAME": BASE_DIR / "test.sqlite3"}
        # `manage.py test --parallel` copies the file without its WAL.
        journal = "" if "test" in sys.argv else "PRAGMA journal_mode=WAL;"
        DATABASES["default"]["OPTIONS"] = {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": f"{journal}PRAGMA synchronous=NORMAL;",
        }
