"""Tests in the style of pytest."""

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.models import Group
from django.db import connection

import bgtasks
from bgtasks.models import BackgroundTask
from bgtasks.testing import arun_fired, assert_fired, fired, live, run_fired

from .tasks import count_down, fail, pack, send_receipt

IN_MEMORY = settings.KIND == "memory"
needs_sharing = pytest.mark.skipif(IN_MEMORY, reason="live mode refuses a database in memory")


def test_without_database(bgtasks_fired):
    assert bgtasks_fired == []
    bgtasks.fire(send_receipt, 7)
    assert assert_fired(send_receipt, 7) is bgtasks_fired[0]


async def test_async_without_database(bgtasks_fired):
    assert not bgtasks_fired
    handle = bgtasks.fire(count_down, 1)
    assert len(await arun_fired()) == 2
    assert await handle == 1


def test_coroutine_objects_that_nothing_runs_leave_no_warning():
    bgtasks.fire(never_run(), name="never")
    bgtasks.fire(never_run)


async def never_run():
    """Python would warn of a dropped coroutine."""


@pytest.mark.django_db
def test_in_a_transaction(client):
    client.get("/order?name=tea")
    ran = run_fired()

    assert [item.task for item in ran] == [send_receipt, pack]
    assert Group.objects.get().name == "packed"


@pytest.mark.django_db
def test_in_a_transaction_again(client):
    assert not fired
    assert not Group.objects.exists()
    client.get("/refuse")
    assert not fired


@pytest.mark.django_db
def test_on_commit_callbacks(client, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        client.get("/order?name=tea")
    assert len(run_fired()) == 2


@pytest.mark.django_db
def test_errors():
    bgtasks.fire(fail, "no")
    with pytest.raises(ValueError, match="no"):
        run_fired()


@pytest.mark.django_db
def test_live_mode_is_refused_in_a_transaction():
    with pytest.raises(RuntimeError, match="bgtasks_live"), live():
        pass


@pytest.mark.django_db
async def test_live_mode_is_refused_in_a_transaction_of_a_fixture():
    with pytest.raises(RuntimeError, match="bgtasks_live"):
        async with live():
            pass


def test_live_mode_is_refused_without_database():
    with pytest.raises(RuntimeError, match=r"django_db|TEST"), live():
        pass


@pytest.mark.django_db(transaction=True)
def test_with_commits(client):
    client.get("/order?name=tea")
    run_fired()
    assert Group.objects.get().name == "packed"


@pytest.mark.django_db(transaction=True)
async def test_async_with_commits(async_client):
    await async_client.get("/aorder?name=tea")
    await arun_fired()
    assert (await Group.objects.aget()).name == "tea, receipt sent"


@pytest.mark.django_db(transaction=True)
async def test_sync_code_of_an_async_test():
    made = await Group.objects.acreate(name="tea")
    bgtasks.fire(pack, made.pk)
    assert len(await sync_to_async(run_fired)()) == 1
    assert (await Group.objects.aget()).name == "packed"


@needs_sharing
def test_live(bgtasks_live, client):
    client.get("/order?name=tea")
    bgtasks.fire(pack, 0)


@needs_sharing
async def test_async_live(bgtasks_live, async_client):
    await async_client.get("/aorder?name=tea")
    handle = await bgtasks.afire(count_down, 0)
    assert await handle == 0
    assert (await BackgroundTask.objects.aget(pk=handle.id)).name == "shop.tasks.count_down"


@needs_sharing
@pytest.mark.django_db(transaction=True)
async def test_live_on_the_loop_of_the_test(async_client):
    async with live():
        await async_client.get("/aorder?name=tea")
    assert (await Group.objects.aget()).name == "tea, receipt sent"
    assert not connection.in_atomic_block


@needs_sharing
def test_live_server(live_server, bgtasks_live, client):
    import urllib.request

    with urllib.request.urlopen(f"{live_server.url}/order?name=tea", timeout=20):
        pass
