"""The push to the admin's pages: from the end of a task, over the channel layer, to the socket."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from asgiref.sync import sync_to_async
from channels.layers import channel_layers, get_channel_layer
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.backends.db import SessionStore
from django.test import Client
from django.utils import timezone

import bgtasks
from bgtasks import live
from bgtasks.live import GROUP, broadcaster, consumers
from bgtasks.live.routing import application
from bgtasks.models import Process
from bgtasks.signals import stop_asked
from tests.app import tasks
from tests.conftest import Runtime, wait_until
from tests.waiting import astays

ORIGIN = (b"origin", b"http://testserver")
HOST = (b"host", b"testserver")


@pytest.fixture(autouse=True)
def layer(settings: Any) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    channel_layers.backends.clear()


@pytest.fixture
def cookie(transactional_db: None) -> str:
    user = User.objects.create(username="viewer", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_backgroundtask"))
    client = Client()
    client.force_login(user)
    return client.cookies["sessionid"].value


def connect(cookie: str, headers: list[tuple[bytes, bytes]] | None = None) -> WebsocketCommunicator:
    found = headers if headers is not None else [ORIGIN, HOST]
    return WebsocketCommunicator(
        application, "/bgtasks/live/", headers=[*found, (b"cookie", f"sessionid={cookie}".encode())]
    )


@pytest_asyncio.fixture
async def opened(cookie: str) -> AsyncIterator[WebsocketCommunicator]:
    communicator = connect(cookie)
    is_accepted, _ = await communicator.connect(timeout=10)
    assert is_accepted
    await communicator.receive_from(timeout=10)  # An earlier change may have been pushed.
    yield communicator
    await communicator.disconnect()


async def test_the_end_of_a_task_is_pushed(runtime: Runtime, opened: WebsocketCommunicator) -> None:
    await bgtasks.fire(tasks.succeed, 1)

    assert json.loads(await opened.receive_from(timeout=10)) == {"changed": True}


async def test_many_changes_are_few_messages(opened: WebsocketCommunicator) -> None:
    layer = get_channel_layer()
    for _ in range(90):
        await layer.group_send(GROUP, broadcaster.MESSAGE)
        await asyncio.sleep(0.01)

    received = 0
    while not await opened.receive_nothing(timeout=consumers.PAUSE * 2):
        await opened.receive_from()
        received += 1

    assert 1 <= received <= 4


async def test_a_browser_that_reads_nothing_blocks_no_other(runtime: Runtime, opened: WebsocketCommunicator) -> None:
    results = await asyncio.gather(*[bgtasks.fire(tasks.succeed, number) for number in range(2000)])

    assert results == list(range(2000))


async def test_what_the_page_says_is_not_listened_to(opened: WebsocketCommunicator) -> None:
    for text in ("x", "{", '{"type": "bgtasks.changed"}', "x" * 100_000):
        await opened.send_to(text_data=text)
    await opened.send_to(bytes_data=b"\xff")

    assert await opened.receive_nothing(timeout=0.3)
    await get_channel_layer().group_send(GROUP, broadcaster.MESSAGE)
    assert await opened.receive_from(timeout=10)


@pytest.mark.parametrize(
    "headers",
    [
        [HOST],
        [HOST, (b"origin", b"http://evil.example")],
        [HOST, (b"origin", b"null")],
        [HOST, (b"origin", b"http://testserver:81")],
        [HOST, (b"origin", b"http://testserver@evil.example")],
        [(b"host", b"evil.example"), ORIGIN],
    ],
)
async def test_a_foreign_page_is_refused(cookie: str, headers: list[tuple[bytes, bytes]]) -> None:
    is_accepted, _ = await connect(cookie, headers).connect(timeout=10)

    assert not is_accepted


@pytest.mark.parametrize("trusted", ["https://admin.example", "https://*.example"])
async def test_a_trusted_origin_is_taken(cookie: str, settings: Any, trusted: str) -> None:
    settings.CSRF_TRUSTED_ORIGINS = [trusted]
    communicator = connect(cookie, [HOST, (b"origin", b"https://admin.example")])

    is_accepted, _ = await communicator.connect(timeout=10)

    assert is_accepted
    await communicator.disconnect()


async def test_behind_a_proxy_the_forwarded_host_counts(cookie: str, settings: Any) -> None:
    headers = [HOST, (b"x-forwarded-host", b"shop.example"), (b"origin", b"https://shop.example")]
    is_accepted, _ = await connect(cookie, headers).connect(timeout=10)
    assert not is_accepted

    settings.USE_X_FORWARDED_HOST = True
    communicator = connect(cookie, headers)
    is_accepted, _ = await communicator.connect(timeout=10)
    assert is_accepted
    await communicator.disconnect()


@pytest.mark.parametrize("change", ["logged out", "no staff", "not active", "no permission", "deleted"])
async def test_who_may_see_it_no_longer_is_cut_off(
    cookie: str, opened: WebsocketCommunicator, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    def do() -> None:
        user = User.objects.get(username="viewer")
        if change == "logged out":
            SessionStore(cookie).delete()
        elif change == "no staff":
            User.objects.update(is_staff=False)
        elif change == "not active":
            User.objects.update(is_active=False)
        elif change == "no permission":
            user.user_permissions.clear()
        else:
            user.delete()

    await opened.disconnect()
    monkeypatch.setattr(consumers, "CHECK_EVERY", 0.2)
    communicator = connect(cookie)
    is_accepted, _ = await communicator.connect(timeout=10)
    assert is_accepted
    await sync_to_async(do)()

    await communicator.receive_from(timeout=10)
    closed = await communicator.receive_output(timeout=10)

    assert closed["type"] == "websocket.close"
    assert closed["code"] == consumers.FORBIDDEN
    await communicator.disconnect()
    is_accepted, _ = await connect(cookie).connect(timeout=10)
    assert not is_accepted


async def test_it_closes_when_the_server_stops(runtime: Runtime, opened: WebsocketCommunicator) -> None:
    await runtime.stop()

    closed = await opened.receive_output(timeout=10)

    assert closed["type"] == "websocket.close"
    assert closed["code"] == consumers.GONE


class FailingLayer:
    def __init__(self, **options: Any) -> None: ...

    async def group_send(self, group: str, message: Any) -> None:
        raise ConnectionRefusedError("gone")

    async def new_channel(self) -> str:
        return "new"

    async def group_add(self, group: str, channel: str) -> None:
        raise ConnectionRefusedError("gone")

    group_discard = group_add

    async def receive(self, channel: str) -> Any:
        await asyncio.sleep(3600)


async def test_a_layer_that_fails_keeps_nothing_from_running(
    transactional_db: None, settings: Any, runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": f"{__name__}.FailingLayer"}}
    channel_layers.backends.clear()

    def find_nothing_loud() -> bool:
        return not [record for record in caplog.records if record.levelno > logging.INFO]

    with caplog.at_level(logging.DEBUG, logger="bgtasks"):
        for number in range(3):
            assert await bgtasks.fire(tasks.succeed, number) == number
            why = "longer than EVERY, so the end of each task is pushed by itself"
            await astays(find_nothing_loud, broadcaster.EVERY * 1.5, why=why)
        await wait_until(lambda: "were not notified (ConnectionRefusedError: gone)" in caplog.text)
    assert find_nothing_loud()


@pytest.mark.parametrize(("permission", "opens"), [("view_backgroundtask", True), ("view_process", False)])
def test_a_page_opens_a_socket_for_those_who_are_let_in(db: None, permission: str, opens: bool) -> None:
    """A user who may see processes but no tasks would be refused at each attempt."""
    user = User.objects.create(username="ann", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_process", permission]))
    client = Client()
    client.force_login(user)
    now = timezone.now()
    process = Process.objects.create(host="here", pid=1, server="uvicorn", started_at=now, beat_at=now)

    page = client.get(f"/admin/bgtasks/process/{process.pk}/change/").content.decode()

    assert "data-bgtasks-refresh" in page
    assert ("data-bgtasks-socket" in page) is opens


async def test_the_socket_stays_open_and_pushes_while_the_layer_fails(
    cookie: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": f"{__name__}.FailingLayer"}}
    channel_layers.backends.clear()
    monkeypatch.setattr(consumers, "RETRY", 0.1)
    communicator = connect(cookie)
    is_accepted, _ = await communicator.connect(timeout=10)

    assert is_accepted
    for _ in range(2):
        assert json.loads(await communicator.receive_from(timeout=10)) == {"changed": True}
    await communicator.disconnect()


async def test_it_closes_at_once_when_the_process_stops(opened: WebsocketCommunicator) -> None:
    """It ends although the browser does not confirm the close."""
    await stop_asked.asend(None)

    assert (await opened.receive_output(timeout=10))["code"] == consumers.GONE
    await opened.wait(timeout=10)


def test_a_page_opens_no_socket_without_a_layer(settings: Any) -> None:
    assert live.is_routed()
    settings.CHANNEL_LAYERS = {}
    assert not live.is_routed()
