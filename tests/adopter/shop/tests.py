"""Tests in the style of Django's test classes."""

import asyncio
import time
import urllib.request
from unittest import skipIf, skipUnless

from asgiref.testing import ApplicationCommunicator
from django.conf import settings
from django.contrib.auth.models import Group
from django.core import mail
from django.db import transaction
from django.test import LiveServerTestCase, SimpleTestCase, TestCase, TransactionTestCase

import bgtasks
from bgtasks.models import BackgroundTask
from bgtasks.testing import arun_fired, assert_accounted, assert_fired, assert_not_fired, fired, killed, live, run_fired

from .asgi import application
from .tasks import count_down, fail, greet, pack, send_receipt, ship

IN_MEMORY = settings.KIND == "memory"


class WithoutDatabase(SimpleTestCase):
    def test_fires(self):
        self.assertEqual(len(fired), 0)
        handle = bgtasks.fire(send_receipt, 7)

        self.assertEqual(handle.status, bgtasks.Status.READY)
        self.assertIs(assert_fired(send_receipt, order_id=7), fired[0])

    def test_starts_with_nothing_fired(self):
        self.assertFalse(fired)
        bgtasks.fire(greet("Ada"), name="greet")
        mail.outbox = []  # As in Django's documentation. That does not begin a new test.

        assert_fired("greet")

    def test_fires_nothing(self):
        self.assertEqual(fired, [])

    async def test_fires_in_async_code(self):
        self.assertFalse(fired)
        handle = await bgtasks.afire(count_down, 2)
        with self.assertRaisesRegex(RuntimeError, "nothing has run it"):
            await handle
        ran = await arun_fired()

        self.assertEqual([item.args for item in ran], [(2,), (1,), (0,)])
        self.assertEqual(await handle, 2)

    def test_runs(self):
        bgtasks.fire(count_down, 1)
        bgtasks.fire(greet, "Ada")

        self.assertEqual(
            [item.name for item in run_fired()],
            ["shop.tasks.count_down", "shop.tasks.greet", "shop.tasks.count_down"],
        )

    async def test_a_request_through_lifespan_leaves_capture_as_it_is(self):
        scope = {"type": "http", "method": "GET", "path": "/missing", "query_string": b"", "headers": []}
        client = ApplicationCommunicator(application, {**scope, "asgi": {"version": "3.0"}})
        await client.send_input({"type": "http.request"})
        self.assertEqual((await client.receive_output(5))["status"], 404)
        await client.wait(5)
        bgtasks.fire(count_down, 3)

        self.assertEqual(len(fired), 1)


class InTransaction(TestCase):
    def test_view_fires(self):
        answer = self.client.get("/order?name=tea").json()

        assert_fired(send_receipt, answer["id"])
        assert_fired(pack, order_id=answer["id"])
        self.assertEqual(Group.objects.get().name, "tea")

    def test_runs_in_the_same_transaction(self):
        self.client.get("/order?name=tea")
        run_fired()

        self.assertEqual(Group.objects.get().name, "packed")
        self.assertEqual(fired[0].handle.status, bgtasks.Status.SUCCESSFUL)
        self.assertFalse(BackgroundTask.objects.exists())

    def test_rolled_back_is_not_fired(self):
        self.assertEqual(self.client.get("/refuse").status_code, 400)

        assert_not_fired(send_receipt)
        self.assertEqual(run_fired(), [])

    def test_on_commit_callbacks_do_no_harm(self):
        with self.captureOnCommitCallbacks(execute=True):
            made = self.client.get("/order?name=tea").json()["id"]
            with self.assertRaises(ZeroDivisionError), transaction.atomic():
                handle = bgtasks.fire(pack, made)
                1 / 0  # noqa: B018

        self.assertEqual([item.task for item in run_fired()], [send_receipt, pack])
        with self.assertRaises(bgtasks.RolledBack):
            handle.status  # noqa: B018

    def test_errors_are_raised(self):
        bgtasks.fire(fail, "the printer burns")
        with self.assertRaisesRegex(ValueError, "printer"):
            run_fired()

    async def test_async_view(self):
        answer = (await self.async_client.get("/aorder?name=tea")).json()
        assert_fired(send_receipt, answer["id"])
        assert_fired("greet")
        await arun_fired()

        self.assertEqual((await Group.objects.aget()).name, "tea, receipt sent")
        self.assertEqual(await fired[1].handle, "hello tea")

    async def test_runs_in_the_same_transaction_from_async_code(self):
        made = await Group.objects.acreate(name="tea")
        handle = bgtasks.fire(pack, made.pk)
        await arun_fired()

        self.assertTrue(await handle)
        await made.arefresh_from_db()
        self.assertEqual(made.name, "packed")

    def test_is_no_place_for_live_mode(self):
        with self.assertRaisesRegex(RuntimeError, "TransactionTestCase|TEST"), live():
            pass

    async def test_is_no_place_for_live_mode_in_async_code_either(self):
        with self.assertRaisesRegex(RuntimeError, "TransactionTestCase|TEST"):
            async with live():
                pass


class WithCommits(TransactionTestCase):
    def test_runs(self):
        self.client.get("/order?name=tea")
        run_fired()

        self.assertEqual(Group.objects.get().name, "packed")
        self.assertFalse(fired[1].handle.status is bgtasks.Status.READY)

    async def test_runs_in_async_code(self):
        await self.async_client.get("/aorder?name=tea")
        await arun_fired()

        self.assertEqual((await Group.objects.aget()).name, "tea, receipt sent")

    @skipUnless(IN_MEMORY, "only a database in memory cannot be shared")
    def test_live_mode_says_what_it_needs(self):
        with self.assertRaisesRegex(RuntimeError, r'DATABASES\["default"\]\["TEST"\] = '), live():
            pass

    @skipIf(IN_MEMORY, "live mode refuses a database in memory")
    def test_live(self):
        with live():
            self.client.get("/order?name=tea")
            self.client.get("/refuse")

        self.assertEqual({row.status for row in BackgroundTask.objects.all()}, {bgtasks.Status.SUCCESSFUL})
        self.assertEqual(BackgroundTask.objects.count(), 2)
        self.assertFalse(fired)
        bgtasks.fire(count_down, 0)
        self.assertEqual(len(fired), 1)

    @skipIf(IN_MEMORY, "live mode refuses a database in memory")
    async def test_live_on_the_loop_of_the_test(self):
        is_free = asyncio.Event()
        async with live():
            handle = bgtasks.fire(is_free.wait(), name="waits")
            is_free.set()
            self.assertTrue(await handle)
            await self.async_client.get("/aorder?name=tea")

        row = await BackgroundTask.objects.aget(pk=handle.id)
        self.assertEqual(row.status, bgtasks.Status.SUCCESSFUL)
        self.assertEqual((await Group.objects.aget()).name, "tea, receipt sent")


class Killed(TransactionTestCase):
    @skipIf(IN_MEMORY, "another process cannot see a database in memory")
    def test_is_run_again(self):
        order = Group.objects.create(name="tea")
        with killed(ship, order_id=order.pk) as victim:
            while order.name != "on its way":
                time.sleep(0.01)
                order.refresh_from_db()

        self.assertEqual((victim.row.status, victim.row.attempt), (bgtasks.Status.READY, 1))
        with live():
            pass
        victim.row.refresh_from_db()
        order.refresh_from_db()
        self.assertEqual((victim.row.status, victim.row.result), (bgtasks.Status.SUCCESSFUL, 2))
        self.assertEqual(order.name, "shipped")
        assert_accounted()

    @skipIf(IN_MEMORY, "another process cannot see a database in memory")
    async def test_is_lost(self):
        order = await Group.objects.acreate(name="tea")
        async with killed(ship.using(on_lost="fail"), order.pk) as victim:
            self.assertEqual(victim.row.status, bgtasks.Status.RUNNING)

        self.assertEqual(victim.row.status, bgtasks.Status.LOST)
        self.assertEqual(fired, [])

    @skipUnless(IN_MEMORY, "only a database in memory cannot be shared")
    def test_needs_a_database_that_can_be_shared(self):
        with self.assertRaisesRegex(RuntimeError, "in memory"), killed(ship, 1):
            pass


class BehindAServer(LiveServerTestCase):
    def get(self, path):
        with urllib.request.urlopen(self.live_server_url + path, timeout=20) as answer:
            return answer.read()

    def test_captures_what_another_thread_fires(self):
        self.get("/order?name=tea")

        assert_fired(send_receipt)
        run_fired()
        self.assertEqual(Group.objects.get().name, "packed")

    @skipIf(IN_MEMORY, "live mode refuses a database in memory")
    def test_live(self):
        with live():
            self.get("/order?name=tea")

        self.assertEqual(BackgroundTask.objects.filter(status=bgtasks.Status.SUCCESSFUL).count(), 2)
