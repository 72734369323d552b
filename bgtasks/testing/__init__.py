"""
Tools for the tests of a project that uses bgtasks.

In Django's test environment tasks do not run: what is fired is captured, as mails are. Tests look at it, run it in
their own transaction, go live, or have a task killed together with its process.
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
