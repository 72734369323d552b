"""
Code that a type checker must accept or refuse.

It is not run: `make types` reads it, and there an unneeded ignore is an error.
"""

from __future__ import annotations

from typing import Any, assert_type

import bgtasks


@bgtasks.task
async def welcome(user_id: int, *, polite: bool = True) -> str:
    return f"{user_id} {polite}"


@bgtasks.task(name="resize", on_lost="rerun", stuck_after=30)
def resize(path: str) -> int:
    return len(path)


@bgtasks.task(version=2, aliases=["old.login"], sensitive=("token",))
async def login(user_id: int, token: str) -> None: ...


@login.migrate(from_version=1)
def give_token_a_name(args: list[Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    return args[:1], {"token": args[1]}


async def notify(to: str) -> bool:
    return bool(to)


async def accepted() -> None:
    assert_type(bgtasks.fire(welcome, 5), bgtasks.TaskHandle[str])
    assert_type(bgtasks.fire(welcome, 5, polite=False), bgtasks.TaskHandle[str])
    assert_type(await bgtasks.afire(welcome, 5), bgtasks.TaskHandle[str])
    assert_type(await bgtasks.fire(welcome, 5), str)
    assert_type(give_token_a_name([5, "a"], {}), tuple[list[Any], dict[str, Any]])
    assert_type(bgtasks.fire(resize, "a"), bgtasks.TaskHandle[int])
    assert_type(bgtasks.fire(resize.using(on_lost="fail"), "a"), bgtasks.TaskHandle[int])
    assert_type(bgtasks.fire(notify, "Ann"), bgtasks.TaskHandle[bool])
    assert_type(bgtasks.fire(notify("Ann"), name="notify:ann"), bgtasks.TaskHandle[bool])
    assert_type(await welcome(5), str)
    assert_type(await bgtasks.fire(notify("Ann")).wait(timeout=5), bool)


async def refused() -> None:
    bgtasks.fire(welcome)  # type: ignore[call-overload]  # An argument is missing.
    bgtasks.fire(welcome, "5")  # type: ignore[call-overload]  # Of another type.
    bgtasks.fire(welcome, 5, rude=True)  # type: ignore[call-arg]  # No such parameter.
    bgtasks.fire(resize, 5)  # type: ignore[call-overload]
    bgtasks.fire(notify, 5)  # type: ignore[call-overload]
    bgtasks.fire(notify("Ann"), title="x")  # type: ignore[call-overload]
    bgtasks.fire(len, "a")  # type: ignore[call-overload]  # A plain function, not a task function.
    bgtasks.fire("welcome")  # type: ignore[call-overload]
    await bgtasks.afire(welcome, "5")  # type: ignore[call-overload]
    bgtasks.task(timout=30)  # type: ignore[call-overload]  # No such option.
    bgtasks.task(timeout="30")  # type: ignore[call-overload]
    bgtasks.task(on_lost="never")  # type: ignore[call-overload]
    login.migrate(from_version=1)(notify)  # type: ignore[type-var]  # No step.
    welcome.using(version=2)  # type: ignore[call-arg]  # An option of the function, not of one firing.
    welcome.using(retry_on=OSError)  # type: ignore[call-arg]  # A row cannot keep it.
    handle = bgtasks.fire(welcome, 5)
    handle.status = bgtasks.Status.LOST  # type: ignore[misc]  # Read-only.
