"""
The plugin for pytest.

pytest loads it in all projects of an environment. So it imports `bgtasks.testing` only in those that use Django and
bgtasks.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .testing import Fired  # For the type only, see above.


def _is_used() -> bool:
    django_apps = sys.modules.get("django.apps")
    return django_apps is not None and django_apps.apps.ready and "bgtasks" in django_apps.apps.app_configs


@pytest.fixture(autouse=True)
def _bgtasks_begin_test() -> Iterator[None]:
    """Begin and end each test without fired tasks."""
    if not _is_used():
        yield
        return
    from .testing.each_test import begin_test

    begin_test()
    yield
    begin_test()


@pytest.fixture
def bgtasks_fired() -> Fired:
    """The tasks that the test has fired, in order."""
    from .testing import fired

    return fired


@pytest.fixture
def bgtasks_live(transactional_db: None) -> Iterator[None]:
    """Run tasks in the test. Those that run at its end are drained, before pytest-django empties the database."""
    from .testing import live

    with live():
        yield
