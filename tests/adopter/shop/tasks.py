"""Orders are rows of Group, so the adopter needs no models of its own."""

import asyncio

from django.contrib.auth.models import Group
from django.db import connection

import bgtasks


@bgtasks.task
async def send_receipt(order_id: int, copies: int = 1) -> str:
    order = await Group.objects.aget(pk=order_id)
    order.name = f"{order.name}, receipt sent"
    await order.asave()
    return f"{copies} for {bgtasks.current().name}"


@bgtasks.task
def pack(order_id: int) -> bool:
    Group.objects.filter(pk=order_id).update(name="packed")
    return connection.in_atomic_block


@bgtasks.task(on_lost="rerun")
async def ship(order_id: int) -> int:
    """Ship in two steps. An order that is on its way is not sent off again."""
    order = await Group.objects.aget(pk=order_id)
    if order.name != "on its way":
        order.name = "on its way"
        await order.asave()
    await asyncio.sleep(0.5)
    order.name = "shipped"
    await order.asave()
    return bgtasks.current().attempt


@bgtasks.task
async def count_down(number: int) -> int:
    if number:
        bgtasks.fire(count_down, number - 1)
    return number


@bgtasks.task
async def fail(reason: str) -> None:
    raise ValueError(reason)


async def greet(name: str) -> str:
    return f"hello {name}"
