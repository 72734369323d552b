"""
The rows: background tasks, the processes that run them, and the drains of those processes.

Rows announce nothing. The journal writes them with plain SQL; `transitions.py` is the other writer.
"""

from .books import Ledger, Rollup
from .control import Pause, RateLimit
from .pages import FailedTask, LiveTask, Overview, StuckTask, TaskFunction
from .process import Drain, Process
from .task import BackgroundTask

__all__ = [
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
]
