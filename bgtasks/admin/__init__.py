"""The Django admin: background tasks, processes, drains, pauses and the ledger, each in a module of its own."""

from . import background_task, drain, ledger, pause, process

__all__ = ["background_task", "drain", "ledger", "pause", "process"]
