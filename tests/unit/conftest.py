"""Apply the rule of this folder: no database, no server, no process, no thread of the runtime."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit import purity


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    if purity.asks_for_database(item):
        pytest.fail(f"{item.name} asks for a database. {purity.ADVICE}", pytrace=False)
    with purity.enforced():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    with purity.enforced():
        return (yield)


@pytest.fixture(autouse=True)
def fresh_runtime() -> None:
    """Replace the fixture of tests/conftest.py: without a thread or a connection there is nothing to end."""
