"""The Django admin: a module for each page."""

from . import background_task, drain, failures, functions, ledger, live_tasks, overview, pause, process, stuck

__all__ = [
    "background_task",
    "drain",
    "failures",
    "functions",
    "ledger",
    "live_tasks",
    "overview",
    "pause",
    "process",
    "stuck",
]
