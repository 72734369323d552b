"""
The names that projects, databases and links depend on, written out.

A name that goes missing here breaks a project that uses bgtasks. A new name is added to the list; a changed one is a
breaking change.
"""

from __future__ import annotations

import dataclasses
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import entry_points
from types import ModuleType

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.management import _get_all_permissions
from django.db import models
from django.urls import URLPattern, URLResolver

import bgtasks.management.commands
import bgtasks.migrations
from bgtasks.conf import Settings
from bgtasks.definition.options import TaskOptions, UsingOptions

PUBLIC = {
    "bgtasks": [
        "BgTasksError",
        "Draining",
        "KeyConflict",
        "NotRecorded",
        "Overloaded",
        "RecordUnknown",
        "Retry",
        "RolledBack",
        "Status",
        "TaskCancelled",
        "TaskFailed",
        "TaskHandle",
        "TaskInterrupted",
        "TaskLost",
        "TaskNotFound",
        "afire",
        "aget",
        "current",
        "drain",
        "fire",
        "get",
        "live_tasks",
        "pending_task_count",
        "task",
    ],
    "bgtasks.definition": ["DEFAULTS", "MAX_NAME_LENGTH", "Task", "check_name", "declared", "name_of", "task"],
    "bgtasks.lifespan": ["Lifespan"],
    "bgtasks.live.routing": ["application", "urlpatterns"],
    "bgtasks.models": [
        "BackgroundTask",
        "Drain",
        "FailedTask",
        "Ledger",
        "LiveTask",
        "Overview",
        "Pause",
        "Process",
        "RateLimit",
        "Rollup",
        "StuckTask",
        "TaskFunction",
    ],
    "bgtasks.signals": [
        "drained",
        "lifespan_shutdown",
        "lifespan_startup",
        "stop_asked",
        "task_finished",
        "task_fired",
        "task_started",
    ],
    "bgtasks.testing": [
        "Fired",
        "FiredTask",
        "arun_fired",
        "assert_accounted",
        "assert_fired",
        "assert_not_fired",
        "fired",
        "killed",
        "live",
        "run_fired",
    ],
}
PUBLIC_WITHOUT_ALL = {
    "bgtasks.exceptions": [
        "BgTasksError",
        "Draining",
        "KeyConflict",
        "NotRecorded",
        "Overloaded",
        "RecordUnknown",
        "Retry",
        "RolledBack",
        "TaskCancelled",
        "TaskFailed",
        "TaskInterrupted",
        "TaskLost",
        "TaskNotFound",
        "TaskUnsuccessful",
    ],
    "bgtasks.middleware": ["OverloadedMiddleware"],
    "bgtasks.pytest_plugin": ["bgtasks_fired", "bgtasks_live"],
    "bgtasks.status": ["FINISHED", "LIVE", "TRANSITIONS", "UNSUCCESSFUL", "Status", "may_follow"],
    "bgtasks.uuid7": ["uuid7"],  # Migrations import it.
}
USING_OPTIONS = [
    "on_lost",
    "stuck_after",
    "fire_on_commit",
    "queue",
    "priority",
    "run_after",
    "max_attempts",
    "backoff",
    "backoff_first",
    "backoff_cap",
    "backoff_jitter",
    "timeout",
    "soft_timeout",
    "key",
    "unique_for",
    "on_conflict",
    "rate_key",
]
OTHER_TASK_OPTIONS = [  # Only the decorator accepts them.
    "retry_on",
    "give_up_on",
    "on_soft_timeout",
    "max_running",
    "rate",
    "isolated",
    "version",
    "aliases",
    "sensitive",
]
PERMISSIONS = {
    "BackgroundTask": [
        "add_backgroundtask",
        "apply_verdict",
        "cancel_task",
        "change_backgroundtask",
        "delete_backgroundtask",
        "fire_task",
        "view_backgroundtask",
        "view_task_args",
    ],
    "Drain": ["add_drain", "change_drain", "delete_drain", "view_drain"],
    "FailedTask": [],
    "Ledger": ["add_ledger", "change_ledger", "delete_ledger", "view_ledger"],
    "LiveTask": [],
    "Overview": [],
    "Pause": ["add_pause", "change_pause", "delete_pause", "view_pause"],
    "Process": ["add_process", "change_process", "delete_process", "drain_process", "view_process"],
    "RateLimit": ["add_ratelimit", "change_ratelimit", "delete_ratelimit", "view_ratelimit"],
    "Rollup": [],
    "StuckTask": [],
    "TaskFunction": [],
}
ADMIN_URLS = [
    "bgtasks_backgroundtask_add",
    "bgtasks_backgroundtask_ask",
    "bgtasks_backgroundtask_cancel",
    "bgtasks_backgroundtask_change",
    "bgtasks_backgroundtask_changelist",
    "bgtasks_backgroundtask_delete",
    "bgtasks_backgroundtask_export",
    "bgtasks_backgroundtask_fire_again",
    "bgtasks_backgroundtask_history",
    "bgtasks_drain_add",
    "bgtasks_drain_change",
    "bgtasks_drain_changelist",
    "bgtasks_drain_delete",
    "bgtasks_drain_history",
    "bgtasks_failedtask_changelist",
    "bgtasks_ledger_changelist",
    "bgtasks_livetask_act",
    "bgtasks_livetask_changelist",
    "bgtasks_overview_changelist",
    "bgtasks_overview_unaccounted",
    "bgtasks_pause_add",
    "bgtasks_pause_change",
    "bgtasks_pause_changelist",
    "bgtasks_pause_delete",
    "bgtasks_pause_history",
    "bgtasks_process_add",
    "bgtasks_process_change",
    "bgtasks_process_changelist",
    "bgtasks_process_delete",
    "bgtasks_process_drain",
    "bgtasks_process_history",
    "bgtasks_process_undo_drain",
    "bgtasks_stucktask_apply",
    "bgtasks_stucktask_cancel",
    "bgtasks_stucktask_changelist",
    "bgtasks_taskfunction_changelist",
    "bgtasks_taskfunction_function",
    "bgtasks_taskfunction_pause",
    "bgtasks_taskfunction_resume",
]
SETTINGS = [
    "HEARTBEAT",
    "DEAD_AFTER",
    "POLL_INTERVAL",
    "DRAIN_TIMEOUT",
    "CANCEL_GRACE",
    "FLUSH_TIMEOUT",
    "MAX_RUNNING",
    "DB_LANES",
    "SYNC_THREADS",
    "MAX_ISOLATED",
    "QUEUES",
    "WRITE_TIMEOUT",
    "MAX_UNWRITTEN",
    "STUCK_AFTER",
    "STUCK_WAITING_AFTER",
    "BLOCKED_AFTER",
    "MAX_ARGS_BYTES",
    "MAX_RESULT_BYTES",
    "RETENTION",
    "RETENTION_FAILED",
    "RECORD_FIRED_BY",
    "RELEASE",
    "SPOOL_PATH",
    "FIRE_ON_COMMIT",
]
COMMANDS = [
    "audit_tasks",
    "drain_tasks",
    "pause_tasks",
    "prune_tasks",
    "resume_tasks",
    "run_tasks",
    "stuck_tasks",
    "top_tasks",
]
MIGRATIONS = ["0001_initial", "0002_live_key_constraint", "0003_options", "0004_admin_pages"]
COLUMNS = {
    "bgtasks_backgroundtask": [
        "id",
        "name",
        "is_task_function",
        "status",
        "args",
        "kwargs",
        "on_lost",
        "stuck_after",
        "attempt",
        "max_attempts",
        "priority",
        "queue_name",
        "options",
        "run_after",
        "created_at",
        "started_at",
        "finished_at",
        "process",
        "origin",
        "key",
        "unique_for",
        "rate_key",
        "live_key",
        "progress",
        "await_place",
        "error_type",
        "error_message",
        "traceback",
        "error_fingerprint",
        "result",
        "checkpoint",
        "transitions",
        "cancel_requested_at",
        "fired_by",
        "fired_again_from",
        "release",
        "signature_fingerprint",
    ],
    "bgtasks_drain": [
        "id",
        "process",
        "asked_by",
        "started_at",
        "seconds",
        "running_at_start",
        "finished_count",
        "cancelled_count",
        "left_count",
        "names",
        "cut_short_after",
        "course",
    ],
    "bgtasks_ledger": ["id", "fired_count", "gone_count"],
    "bgtasks_pause": ["id", "kind", "name", "paused_at", "paused_by"],
    "bgtasks_process": [
        "id",
        "host",
        "pid",
        "server",
        "release",
        "started_at",
        "stopped_at",
        "state",
        "beat",
        "beat_at",
        "loop_seen_at",
        "loop_lag",
        "blocked_since",
        "blocked_by",
        "memory",
        "connections",
        "running",
        "functions",
        "has_lifespan",
        "fired_count",
        "died_with",
        "drain_requested_at",
        "drain_acknowledged_at",
    ],
    "bgtasks_ratelimit": ["name", "starts", "used_at"],
    "bgtasks_rollup": ["id", "process", "resolution", "starts_at", "tasks", "lag"],
}


@pytest.mark.parametrize("path", PUBLIC)
def test_module_has_its_public_names(path: str) -> None:
    module = import_module(path)

    assert sorted(module.__all__) == PUBLIC[path]
    assert [name for name in PUBLIC[path] if not hasattr(module, name)] == []


@pytest.mark.parametrize("path", PUBLIC_WITHOUT_ALL)
def test_module_without_all_has_its_public_names(path: str) -> None:
    module = import_module(path)

    assert [name for name in PUBLIC_WITHOUT_ALL[path] if not hasattr(module, name)] == []


def test_pytest_finds_the_plugin() -> None:
    assert [found.value for found in entry_points(group="pytest11", name="bgtasks")] == ["bgtasks.pytest_plugin"]


def test_options() -> None:
    assert list(UsingOptions.__annotations__) == USING_OPTIONS
    assert set(TaskOptions.__annotations__) == {*USING_OPTIONS, *OTHER_TASK_OPTIONS}


def test_app_label() -> None:
    config = apps.get_app_config("bgtasks")

    assert (config.name, config.label) == ("bgtasks", "bgtasks")
    assert config.default_auto_field == "django.db.models.BigAutoField"


def test_permissions() -> None:
    found = {model.__name__: sorted(codename for codename, _ in _get_all_permissions(model._meta)) for model in own()}

    assert found == PERMISSIONS


def test_url_names_of_the_admin() -> None:
    assert sorted(names_in(admin.site.urls[0])) == ADMIN_URLS


def test_settings() -> None:
    assert [field.name.upper() for field in dataclasses.fields(Settings)] == SETTINGS


def test_commands() -> None:
    assert modules_in(bgtasks.management.commands) == COMMANDS


def test_migrations() -> None:
    assert modules_in(bgtasks.migrations) == MIGRATIONS


def test_columns() -> None:
    tables = {model._meta.db_table: model for model in own() if not model._meta.proxy}

    assert {table: [field.column for field in model._meta.fields] for table, model in tables.items()} == COLUMNS
    assert [table for table, model in tables.items() if model._meta.many_to_many] == []


def own() -> list[type[models.Model]]:
    return list(apps.get_app_config("bgtasks").get_models())


def names_in(patterns: list[URLPattern | URLResolver]) -> Iterator[str]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            yield from names_in(pattern.url_patterns)
        elif pattern.name is not None and pattern.name.startswith("bgtasks_"):
            yield pattern.name


def modules_in(package: ModuleType) -> list[str]:
    return sorted(found.name for found in pkgutil.iter_modules(package.__path__))
