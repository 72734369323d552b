"""Each wait that takes too long is answered at its moment, with one timer for all."""

from __future__ import annotations

import asyncio

from bgtasks.runtime.expiry import Expiry, settle


async def test_each_is_answered_at_its_moment():
    loop = asyncio.get_running_loop()
    expiry = Expiry(loop, 0.1)
    answers = []
    for _ in range(3):
        answers.append(loop.create_future())
        expiry.watch(answers[-1])
        await asyncio.sleep(0.01)  # Three moments, one after the other.
    settle(answers[1], True)

    assert await asyncio.wait_for(asyncio.gather(*answers), 5) == [False, True, False]
    assert not expiry.forget_answered()


async def test_it_ends_with_the_last_who_waits():
    loop = asyncio.get_running_loop()
    expiry = Expiry(loop, 60)
    first, second = loop.create_future(), loop.create_future()
    expiry.watch(first)
    expiry.watch(second)
    settle(first, True)
    settle(first, False)  # The first answer stands.

    assert expiry.forget_answered()
    second.cancel()
    assert not expiry.forget_answered()
    assert first.result() is True
    assert expiry._timer is None
    expiry.watch(late := loop.create_future())  # The timer begins anew.
    assert expiry._timer is not None
    late.cancel()
    assert not expiry.forget_answered()
