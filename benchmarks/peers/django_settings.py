"""Settings of the peers that are Django apps: the environment names the apps, the database and the backend."""

import json
import os

SECRET_KEY = "only-for-benchmarks"
INSTALLED_APPS = ["django.contrib.contenttypes", "django_tasks_db", *json.loads(os.environ["BENCHMARKS_APPS"])]
DATABASES = {"default": json.loads(os.environ["BENCHMARKS_DATABASE"])}
TASKS = {"default": json.loads(os.environ["BENCHMARKS_TASKS"])}
USE_TZ = True
LOGGING_CONFIG = None
