"""Settings of the peers that are Django apps, as the environment says: what keeps the rows, and which backend."""

import json
import os

SECRET_KEY = "only-for-benchmarks"
INSTALLED_APPS = ["django.contrib.contenttypes", "django_tasks_db", *json.loads(os.environ["BENCHMARKS_APPS"])]
DATABASES = {"default": json.loads(os.environ["BENCHMARKS_DATABASE"])}
TASKS = {"default": json.loads(os.environ["BENCHMARKS_TASKS"])}
USE_TZ = True
LOGGING_CONFIG = None
