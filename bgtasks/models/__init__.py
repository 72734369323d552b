"""
The rows: background tasks, the processes that run them, their drains, and the counts of all of these.

Models send no signals of bgtasks. Two places write the status of a task: the journal, with plain SQL, and
`transitions.py`.
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
