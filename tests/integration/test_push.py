"""Both sides of the push between processes. The test acts as the other process, over the in-memory layer."""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from uuid import UUID, uuid4

import pytest
from channels.layers import InMemoryChannelLayer, get_channel_layer
from django.utils import timezone

import bgtasks
from bgtasks.api import get_runner
from bgtasks.maintenance.mailbox import LONG_ENOUGH
from bgtasks.models import BackgroundTask
from bgtasks.uuid7 import uuid7
from tests.app import tasks
from tests.conftest import Runtime, wait_until
from tests.waiting import astays

NEVER = 600  # Seconds between two polls: news that arrive in a test were pushed.


class FailingLayer:
    """A layer whose server is gone."""

    async def send(self, channel: str, message: Any) -> None:
        raise ConnectionRefusedError("gone")

    async def receive(self, channel: str) -> Any:
        raise ConnectionRefusedError("gone")


class HangingLayer:
    """A layer whose server does not answer."""

    async def send(self, channel: str, message: Any) -> None:
        await asyncio.sleep(3600)

    receive = send


class CountingLayer(InMemoryChannelLayer):
    sent = 0

    async def send(self, channel: str, message: Any) -> None:
        CountingLayer.sent += 1
        await super().send(channel, message)


class IdleLayer(InMemoryChannelLayer):
    """A layer that raises when no message has arrived for a while."""

    async def receive(self, channel: str) -> Any:
        if not channel.endswith(get_runner().state.id.hex):
            return await super().receive(channel)
        async with asyncio.timeout(LONG_ENOUGH):
            return await super().receive(channel)


class FullLayer(InMemoryChannelLayer):
    """A layer whose channels hold a single message."""

    def __init__(self) -> None:
        super().__init__(capacity=1)


def use(settings: Any, layer: str, poll_interval: float) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": layer}}
    settings.BGTASKS = {**settings.BGTASKS, "POLL_INTERVAL": poll_interval}


class OtherProcess:
    """Another process, as far as it sends and receives messages."""

    def __init__(self) -> None:
        self.id = uuid7()
        self.layer: Any = get_channel_layer()

    async def hear(self) -> dict[str, Any]:
        async with asyncio.timeout(10):
            message: dict[str, Any] = await self.layer.receive(f"bgtasks.{self.id.hex}")
        return message

    async def say(self, **message: Any) -> None:
        await self.layer.send(f"bgtasks.{get_runner().state.id.hex}", message)

    async def ask(self, *ids: UUID) -> None:
        await self.say(type="bgtasks.ask", by=str(self.id), tasks=[str(id_) for id_ in ids])

    async def answer(self, *ids: UUID) -> None:
        await self.say(type="bgtasks.ended", tasks=[str(id_) for id_ in ids])

    async def run_a_task(self) -> BackgroundTask:
        """Return the row of a task that this process runs."""
        return await BackgroundTask.objects.acreate(
            name="tests.app.tasks.succeed",
            status="RUNNING",
            attempt=1,
            process=self.id,
            created_at=timezone.now(),
            started_at=timezone.now(),
        )


async def finish(row: BackgroundTask) -> None:
    await BackgroundTask.objects.filter(pk=row.pk).aupdate(
        status="SUCCESSFUL", result="made elsewhere", finished_at=timezone.now()
    )


def is_asked_about(id_: UUID) -> bool:
    return id_.int in get_runner().peers.asked_about


@pytest.fixture
def layer(settings: Any) -> None:
    use(settings, "channels.layers.InMemoryChannelLayer", NEVER)


@pytest.fixture
def polling_layer(settings: Any) -> None:
    use(settings, "channels.layers.InMemoryChannelLayer", 0.05)


@pytest.fixture
def failing_layer(settings: Any) -> None:
    use(settings, "tests.integration.test_push.FailingLayer", 0.05)


@pytest.fixture
def hanging_layer(settings: Any) -> None:
    use(settings, "tests.integration.test_push.HangingLayer", 0.05)


@pytest.fixture
def idle_layer(settings: Any) -> None:
    use(settings, "tests.integration.test_push.IdleLayer", NEVER)


@pytest.fixture
def full_layer(settings: Any) -> None:
    use(settings, "tests.integration.test_push.FullLayer", 0.05)


@pytest.fixture
def counting_layer(settings: Any) -> type[CountingLayer]:
    use(settings, "tests.integration.test_push.CountingLayer", 0.05)
    CountingLayer.sent = 0
    return CountingLayer


# In the process that runs the task.


async def test_the_answer_comes_after_the_commit(layer: None, runtime: Runtime) -> None:
    go_on = asyncio.Event()
    handle = await bgtasks.afire(go_on.wait(), name="waits")
    other = OtherProcess()

    await other.ask(handle.id)
    await wait_until(lambda: is_asked_about(handle.id))
    go_on.set()

    assert await other.hear() == {"type": "bgtasks.ended", "tasks": [str(handle.id)]}
    assert (await BackgroundTask.objects.aget(pk=handle.id)).status == "SUCCESSFUL"
    assert not get_runner().peers.asked_about


async def test_each_that_asks_has_one_answer_for_all(layer: None, runtime: Runtime) -> None:
    go_on = asyncio.Event()
    handles = [await bgtasks.afire(go_on.wait(), name="waits") for _ in range(3)]
    others = [OtherProcess(), OtherProcess()]

    for other in others:
        await other.ask(*[handle.id for handle in handles])
        await other.ask(handles[0].id)  # A second question about it.
    await wait_until(lambda: sum(map(len, get_runner().peers.asked_about.values())) == 6)
    go_on.set()

    for other in others:
        answered: list[str] = []
        while len(answered) < 3:  # One message, or two if the journal wrote two batches.
            answered += (await other.hear())["tasks"]
        assert sorted(answered) == sorted(str(handle.id) for handle in handles)


async def test_who_asks_about_an_unknown_task_is_answered_at_once(layer: None, runtime: Runtime) -> None:
    other = OtherProcess()
    ended = await bgtasks.afire(tasks.succeed)
    await ended
    unknown = uuid4()

    await other.ask(unknown, ended.id)

    assert await other.hear() == {"type": "bgtasks.ended", "tasks": [str(unknown), str(ended.id)]}
    assert (await BackgroundTask.objects.aget(pk=ended.id)).status == "SUCCESSFUL"
    assert not get_runner().peers.asked_about


async def test_a_task_that_will_be_tried_again_is_let_go(layer: None, runtime: Runtime) -> None:
    """Any process may make the next attempt, so the waiting process has to find it."""
    go_on = asyncio.Event()

    @bgtasks.task(name="fails at first", max_attempts=2, backoff_first=600, backoff_cap=600)
    async def fail_at_first() -> None:
        await go_on.wait()
        raise ValueError

    handle = await bgtasks.afire(fail_at_first)
    other = OtherProcess()
    await other.ask(handle.id)
    await wait_until(lambda: is_asked_about(handle.id))
    go_on.set()

    assert (await other.hear())["tasks"] == [str(handle.id)]
    assert (await BackgroundTask.objects.aget(pk=handle.id)).status == "READY"


async def test_a_drain_answers_before_it_ends(layer: None, runtime: Runtime) -> None:
    handle = await bgtasks.afire(tasks.sleep, 3600)
    other = OtherProcess()
    await other.ask(handle.id)
    await wait_until(lambda: is_asked_about(handle.id))

    await bgtasks.drain(timeout=0.1)

    assert (await other.hear())["tasks"] == [str(handle.id)]
    assert (await BackgroundTask.objects.aget(pk=handle.id)).status == "INTERRUPTED"


async def test_what_is_no_question_is_ignored(layer: None, runtime: Runtime) -> None:
    go_on = asyncio.Event()
    handle = await bgtasks.afire(go_on.wait(), name="waits")
    other = OtherProcess()
    by, id_ = str(other.id), str(handle.id)
    wrong: list[dict[str, Any]] = [
        {},
        {"type": "bgtasks.ask"},
        {"type": "bgtasks.ask", "by": by},
        {"type": "bgtasks.ask", "tasks": [id_]},
        {"type": "bgtasks.ask", "by": "specific.channel!of-somebody", "tasks": [id_]},
        {"type": "bgtasks.ask", "by": [by], "tasks": [id_]},
        {"type": "bgtasks.ask", "by": by, "tasks": id_},
        {"type": "bgtasks.ask", "by": by, "tasks": {id_: 1}},
        {"type": "bgtasks.ask", "by": by, "tasks": [id_, 5]},
        {"type": "bgtasks.ask", "by": by, "tasks": [id_, "x" * 36]},
        {"type": "bgtasks.ask", "by": by, "tasks": [id_] * 501},
        {"type": ["bgtasks.ask"], "by": by, "tasks": [id_]},
        {"type": "bgtasks.ended", "tasks": [None]},
        {"type": "bgtasks.ended", "tasks": [id_]},  # Without a question.
        {"type": "websocket.send", "text": "hello"},
    ]

    for message in wrong:
        await other.say(**message)
    get_runner()
    for message in ("text", None, 5, [by]):
        await other.layer.channels[f"bgtasks.{get_runner().state.id.hex}"].put((float("inf"), message))
    last = uuid4()
    await other.ask(last)

    assert (await other.hear())["tasks"] == [str(last)]
    assert not get_runner().peers.asked_about
    go_on.set()
    assert await handle


async def test_a_task_without_questions_sends_nothing(counting_layer: type[CountingLayer], runtime: Runtime) -> None:
    handles = [bgtasks.fire(tasks.succeed, number) for number in range(50)]
    assert await asyncio.gather(*handles) == list(range(50))
    await runtime.stop()
    assert counting_layer.sent == 0


# In the process that waits.


async def test_a_waiting_process_asks_and_reads_the_row_when_answered(layer: None, runtime: Runtime) -> None:
    other = OtherProcess()
    row = await other.run_a_task()
    waiting = asyncio.create_task((await bgtasks.aget(row.pk)).wait(timeout=20))

    question = await other.hear()
    await finish(row)
    await other.answer(row.pk)

    assert await waiting == "made elsewhere"
    own_id = str(get_runner().state.id)
    assert question == {"type": "bgtasks.ask", "by": own_id, "tasks": [str(row.pk)]}


async def test_a_thread_that_waits_is_answered_too(layer: None, runtime: Runtime) -> None:
    other = OtherProcess()
    row = await other.run_a_task()
    handle = await bgtasks.aget(row.pk)
    waiting = asyncio.create_task(asyncio.to_thread(handle.result, 20))

    await other.hear()
    await finish(row)
    await other.answer(row.pk)

    assert await waiting == "made elsewhere"


async def test_who_runs_the_next_attempt_is_asked(layer: None, runtime: Runtime) -> None:
    first, second = OtherProcess(), OtherProcess()
    row = await first.run_a_task()
    waiting = asyncio.create_task((await bgtasks.aget(row.pk)).wait(timeout=20))

    await first.hear()
    await BackgroundTask.objects.filter(pk=row.pk).aupdate(process=second.id, attempt=2)
    await first.answer(row.pk)
    await second.hear()
    await finish(row)
    await second.answer(row.pk)

    assert await waiting == "made elsewhere"


async def test_a_process_is_asked_once(counting_layer: type[CountingLayer], runtime: Runtime) -> None:
    """One question, however many polls and callers; a second one if it has answered and still runs the task."""
    other = OtherProcess()
    row = await other.run_a_task()
    handles = [await bgtasks.aget(row.pk) for _ in range(3)]
    waiting = [asyncio.create_task(handle.wait(timeout=20)) for handle in handles]

    await other.hear()
    await astays(lambda: counting_layer.sent == 1, 0.5, why="ten times POLL_INTERVAL")
    await other.answer(row.pk)
    await other.hear()
    await finish(row)

    assert await asyncio.gather(*waiting) == ["made elsewhere"] * 3  # By polling, without an answer.
    assert counting_layer.sent == 3


async def test_a_task_that_is_no_longer_awaited_is_forgotten(polling_layer: None, runtime: Runtime) -> None:
    other = OtherProcess()
    row = await other.run_a_task()
    handle = await bgtasks.aget(row.pk)
    with pytest.raises(TimeoutError):
        await handle.wait(timeout=0.2)
    assert (await other.hear())["tasks"] == [str(row.pk)]
    registry = get_runner().registry
    await wait_until(lambda: not registry.awaited)

    waiting = asyncio.create_task(handle.wait(timeout=20))

    await other.hear()  # It asks again.
    await finish(row)
    assert await waiting == "made elsewhere"


async def test_a_full_channel_is_asked_again_later(full_layer: None, runtime: Runtime) -> None:
    other = OtherProcess()
    await other.layer.send(f"bgtasks.{other.id.hex}", {"type": "fills it"})
    row = await other.run_a_task()
    waiting = asyncio.create_task((await bgtasks.aget(row.pk)).wait(timeout=20))
    await wait_until(lambda: row.pk.int in get_runner().registry.awaited)
    await astays(
        lambda: not waiting.done(), 0.2, why="four times POLL_INTERVAL: it asks again, and the channel is full"
    )

    assert (await other.hear())["type"] == "fills it"
    assert (await other.hear())["tasks"] == [str(row.pk)]
    await finish(row)
    assert await waiting == "made elsewhere"


async def test_a_layer_that_fails_leaves_it_to_polling(
    failing_layer: None, runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    other = OtherProcess()
    row = await other.run_a_task()
    waiting = asyncio.create_task((await bgtasks.aget(row.pk)).wait(timeout=20))
    await astays(lambda: not waiting.done(), 1.5, why="longer than FIRST_RETRY: the listener has tried again")
    await finish(row)

    assert await waiting == "made elsewhere"
    assert await bgtasks.fire(tasks.succeed, 1) == 1
    records = [
        record for record in [*caplog.get_records("setup"), *caplog.records] if "channel layer" in record.getMessage()
    ]
    assert [record.levelno for record in records] == [logging.WARNING]


async def test_a_layer_that_tires_of_waiting_is_no_outage(
    idle_layer: None, runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    def is_silent() -> bool:
        return not [record for record in caplog.records if "channel layer" in record.getMessage()]

    other = OtherProcess()
    await astays(is_silent, 2.5 * LONG_ENOUGH, why="the layer gives up two waits of LONG_ENOUGH each")
    row = await other.run_a_task()
    waiting = asyncio.create_task((await bgtasks.aget(row.pk)).wait(timeout=20))

    await other.hear()
    await finish(row)
    await other.answer(row.pk)

    assert await waiting == "made elsewhere"
    assert is_silent()


async def test_a_layer_that_hangs_delays_nothing(hanging_layer: None, runtime: Runtime) -> None:
    other = OtherProcess()
    row = await other.run_a_task()
    waiting = asyncio.create_task((await bgtasks.aget(row.pk)).wait(timeout=20))
    await wait_until(lambda: row.pk.int in get_runner().registry.awaited)
    assert await bgtasks.fire(tasks.succeed, 1) == 1
    await finish(row)

    assert await waiting == "made elsewhere"
    async with asyncio.timeout(3):
        await runtime.stop()
    assert not [task for task in asyncio.all_tasks() if "mailbox" in repr(task)]


async def test_a_process_with_another_id_listens_there(layer: None, runtime: Runtime) -> None:
    go_on = asyncio.Event()
    handle = await bgtasks.afire(go_on.wait(), name="waits")
    other = OtherProcess()
    await other.ask(handle.id)
    await wait_until(lambda: is_asked_about(handle.id))
    journal = get_runner().journal
    former_id = get_runner().state.id

    journal.submit(journal._begin_anew)

    assert (await other.hear())["tasks"] == [str(handle.id)]
    assert get_runner().state.id != former_id
    await other.ask(handle.id)
    await wait_until(lambda: is_asked_about(handle.id))
    go_on.set()
    assert (await other.hear())["tasks"] == [str(handle.id)]
