"""
The Django admin: an overview, background tasks, what is stuck, processes, drains, pauses and the ledger.

Each is in a module of its own.
"""

from . import background_task, drain, ledger, overview, pause, process, stuck

__all__ = ["background_task", "drain", "ledger", "overview", "pause", "process", "stuck"]
