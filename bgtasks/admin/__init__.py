"""The Django admin: an overview, background tasks, processes, drains, pauses and the ledger, each in a module of its own."""

from . import background_task, drain, ledger, overview, pause, process

__all__ = ["background_task", "drain", "ledger", "overview", "pause", "process"]
