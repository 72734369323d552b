"""As in tests with Channels, Daphne serves the requests in a process of its own."""

import time
import urllib.request

from daphne.testing import DaphneProcess
from django.test import TransactionTestCase

from bgtasks.models import BackgroundTask
from bgtasks.status import FINISHED
from bgtasks.testing import fired

from .asgi import application


def get_application():
    return application


class BehindDaphne(TransactionTestCase):
    def setUp(self):
        self.server = DaphneProcess("localhost", get_application)
        self.server.start()
        self.addCleanup(self.server.join)
        self.addCleanup(self.server.terminate)
        self.assertTrue(self.server.ready.wait(20))

    def test_tasks_run(self):
        with urllib.request.urlopen(f"http://localhost:{self.server.port.value}/order?name=tea", timeout=20):
            pass

        deadline = time.monotonic() + 20
        while BackgroundTask.objects.filter(status__in=FINISHED).count() < 2:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)
        self.assertEqual(set(BackgroundTask.objects.values_list("status", flat=True)), {"SUCCESSFUL"})
        self.assertEqual(fired, [])
