"""The audit, as an assertion."""

from __future__ import annotations

from django.db import router

from ..conf import get_settings
from ..models import BackgroundTask
from ..reports.audit import Auditor


def assert_accounted() -> None:
    """
    Assert that no task is unaccounted for: what `manage.py audit_tasks` finds nothing wrong with.

    For tests that go live or kill: what is only captured has no rows.

    Raises:
        AssertionError: with what is wrong, and the tasks.
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
