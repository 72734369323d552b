"""The Django admin: a folder or a module for each page. An import of this package registers all of them."""

from . import failures, live_tasks
from .functions import page as functions_page
from .functions import pauses
from .overview import ledger
from .overview import page as overview_page
from .processes import change_list as process_list
from .processes import drains
from .stuck import page as stuck_page
from .tasks import change_list as task_list

__all__ = [
    "drains",
    "failures",
    "functions_page",
    "ledger",
    "live_tasks",
    "overview_page",
    "pauses",
    "process_list",
    "stuck_page",
    "task_list",
]
