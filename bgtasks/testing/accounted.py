"""The audit of all rows, as an assertion."""

from __future__ import annotations

from django.db import router

from ..conf import get_settings
from ..models import BackgroundTask
from ..reports.audit import Auditor


def assert_accounted() -> None:
    """
    Assert that all tasks are accounted for, that is, that `manage.py audit_tasks` finds no errors.

    For live mode and kill tests: captured tasks have no rows.

    Raises:
        AssertionError: with the errors and their tasks.
    """
    __tracebackhide__ = True
    audit = Auditor(router.db_for_write(BackgroundTask), get_settings()).audit()
    if audit.problems:
        found = "".join(
            f"\n  {one.count} {one.what}" + "".join(f"\n    {task}" for task in one.tasks) for one in audit.problems
        )
        raise AssertionError(
            f"{audit.fired} tasks were fired, {audit.rows} are in the table, {audit.gone} are gone:{found}"
        )
