"""
Code with the tools for tests that a type checker must accept or refuse.

It is not run: `make types` reads it, and there an unneeded ignore is an error.
"""

from __future__ import annotations

from typing import assert_type

import bgtasks
from bgtasks.testing import FiredTask, arun_fired, assert_fired, assert_not_fired, fired, live, run_fired


@bgtasks.task
async def welcome(user_id: int, *, polite: bool = True) -> str:
    return f"{user_id} {polite}"


async def notify(to: str) -> bool:
    return bool(to)


async def accepted() -> None:
    assert_type(fired[0], FiredTask)
    assert_type(fired[1:], list[FiredTask])
    assert_type(list(fired), list[FiredTask])
    assert_type(run_fired(), list[FiredTask])
    assert_type(await arun_fired(raise_errors=False), list[FiredTask])
    assert_type(assert_fired(welcome, polite=False), FiredTask)
    assert_type(assert_fired(welcome.using(on_lost="fail"), 5), FiredTask)
    assert_fired(notify, "Ann")
    assert_not_fired("notify:ann")
    with live():
        pass
    async with live(timeout=5):
        pass


def refused() -> None:
    assert_fired(5)  # type: ignore[arg-type]
    assert_fired(len)  # type: ignore[arg-type]  # A plain function, not a task function.
    run_fired(True)  # type: ignore[call-arg, misc, unused-ignore]  # Given by name.
    fired[0] = fired[1]  # type: ignore[index]
