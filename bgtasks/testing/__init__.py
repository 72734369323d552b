"""
Tools for the tests of a project that uses bgtasks.

In Django's test environment tasks do not run: fired tasks are captured, as Django captures mails. A test inspects them,
runs them in its own transaction, goes live, or kills a task together with its process.
"""

from .accounted import assert_accounted
from .capture import FiredTask
from .fired import Fired, arun_fired, assert_fired, assert_not_fired, fired, run_fired
from .killed import killed
from .live import live

__all__ = [
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
]
