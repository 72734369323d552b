"""System checks: report faults that keep bgtasks from working, or from working well, and how to correct them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Warning, register
from django.core.handlers.asgi import ASGIHandler
from django.db import connections, router
from django.utils.module_loading import import_string

from .conf import find_problems, get_settings
from .definition import declared
from .journal.statements import SUPPORTED_VENDORS
from .models import BackgroundTask


@register("bgtasks")
def check_settings(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    problems = find_problems(getattr(django_settings, "BGTASKS", {}))
    return [Error(problem, hint=fix, id="bgtasks.E001") for problem, fix in problems]


@register("bgtasks")
def check_asgi_application(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    application = _find_asgi_application()
    router_type = type(application).__name__ == "ProtocolTypeRouter"
    knows_lifespan = router_type and "lifespan" in getattr(application, "application_mapping", {})
    if isinstance(application, ASGIHandler) or (router_type and not knows_lifespan):
        return [
            Warning(
                "The ASGI application is not wrapped in Lifespan: a server that stops or restarts kills running tasks.",
                hint="In asgi.py: from bgtasks.lifespan import Lifespan; application = Lifespan(application). "
                'With Channels also: ProtocolTypeRouter({…, "lifespan": Lifespan()}).',
                id="bgtasks.W001",
            )
        ]
    return []


def _find_asgi_application() -> Any:
    """Return the ASGI application of the project; None if there is none, or it cannot be imported."""
    path = getattr(django_settings, "ASGI_APPLICATION", None)
    if not path:
        package = getattr(django_settings, "ROOT_URLCONF", "").rpartition(".")[0]
        path = f"{package}.asgi.application" if package else None
    try:
        return import_string(path) if path else None
    except Exception:  # noqa: BLE001, RUF100  # An error in it is not the subject of this check.
        return None


@register("bgtasks")
def check_database(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check the settings of the database, without opening a connection."""
    return [] if find_problems(getattr(django_settings, "BGTASKS", {})) else list(_find_database_problems())


def _find_database_problems() -> Iterator[CheckMessage]:
    alias = router.db_for_write(BackgroundTask)
    connection = connections[alias]
    options = connection.settings_dict.get("OPTIONS", {})
    if connection.vendor not in SUPPORTED_VENDORS:
        yield Error(
            f"bgtasks cannot keep its rows in the database {alias!r} ({connection.vendor}).",
            hint=f"Route them to one of: {', '.join(SUPPORTED_VENDORS)}, with a database router.",
            id="bgtasks.E002",
        )
    elif connection.vendor == "sqlite" and options.get("transaction_mode") != "IMMEDIATE":
        yield Warning(
            f"The SQLite database {alias!r} opens transactions in deferred mode: with tasks beside requests, code that "
            "reads and then writes in a transaction fails with “database is locked”.",
            hint='Set OPTIONS = {"transaction_mode": "IMMEDIATE", "timeout": 20, "init_command": '
            '"PRAGMA journal_mode=WAL;PRAGMA synchronous=NORMAL;"}.',
            id="bgtasks.W002",
        )
    pool = options.get("pool")
    largest = pool.get("max_size", 4) if isinstance(pool, dict) else 4
    lanes = get_settings().db_lanes or 4
    if connection.vendor == "postgresql" and pool and lanes + 1 >= largest:
        yield Warning(
            f"The pool of the database {alias!r} has {largest} connections, and bgtasks uses up to {lanes + 1} of "
            "them: requests may find none.",
            hint='Raise OPTIONS["pool"]["max_size"], or lower BGTASKS["DB_LANES"].',
            id="bgtasks.W003",
        )


@register("bgtasks")
def check_task_functions(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    return [
        Warning(
            f"The task function {task.place} is defined inside another function: no other process knows it, so a "
            "waiting task of it may never start.",
            hint="Define it at the top level of a module, best in a module called tasks.",
            id="bgtasks.W004",
        )
        for task in dict.fromkeys(declared.values())  # Once for all its names.
        if "<locals>" in task.func.__qualname__
    ]
