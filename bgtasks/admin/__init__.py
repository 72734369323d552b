"""The Django admin: overview, background tasks, functions, processes, drains, pauses, the ledger: a module for each."""

from . import background_task, drain, functions, ledger, overview, pause, process

__all__ = ["background_task", "drain", "functions", "ledger", "overview", "pause", "process"]
