"""The Django admin, each page in a module of its own."""

from . import background_task, drain, failures, ledger, overview, pause, process

__all__ = ["background_task", "drain", "failures", "ledger", "overview", "pause", "process"]
