"""
Task functions: the decorator, its options, and the arguments that rows can store.

These modules use neither a database nor an event loop.
"""

from .task import DEFAULTS, MAX_NAME_LENGTH, Task, check_name, declared, name_of, task

__all__ = ["DEFAULTS", "MAX_NAME_LENGTH", "Task", "check_name", "declared", "name_of", "task"]
