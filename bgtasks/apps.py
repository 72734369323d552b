"""The AppConfig: holds the registry and puts the runtime of this process together."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures.thread  # noqa: F401  # See _call_before_threads_end.
import logging
import os
import threading
import time
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from django.apps import AppConfig
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext_lazy as _

from . import signals
from .conf import get_settings
from .log import log
from .process.machine import is_server, is_under_test, name_server
from .process.registry import Registry

if TYPE_CHECKING:
    from .runtime.runner import Runner  # For the type only: it imports models, which are not loaded yet.

NO_DRAIN = (
    "No drain is active in this process: %s has sent no lifespan events, so it kills running tasks when it stops. Wrap "
    "the application in asgi.py, application = Lifespan(get_asgi_application()), and leave lifespan on in the server."
)


SLACK = 0.5  # Seconds after the deadline of a drain for threads to end.


class BgTasksConfig(AppConfig):
    name = "bgtasks"
    verbose_name = _("Background tasks")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        get_settings()  # ASGI servers run no checks: a wrong setting is an error here.
        from . import checks  # noqa: F401  # Registers them; needs the app registry.

        self._lock = threading.Lock()
        self._deadline: float | None = None  # Of the drain that is going on.
        self._is_live = False  # Whether tasks run in tests too.
        self.registry = Registry()
        autodiscover_modules("tasks")
        signals.lifespan_startup.connect(self._start, dispatch_uid="bgtasks")
        signals.lifespan_shutdown.connect(self._drain, dispatch_uid="bgtasks")
        os.register_at_fork(after_in_child=self._forget)
        _call_before_threads_end(self._drain_at_exit)

    @cached_property
    def runner(self) -> Runner:
        """This process's runner, made when it is first needed: threads made earlier would not survive a fork."""
        with self._lock:
            return self.__dict__.get("runner") or self._make_runner()

    def _make_runner(self) -> Runner:
        runner = self._make_test_runner() if is_under_test() else None
        self.__dict__["runner"] = runner = runner or self._make_real_runner()
        return runner

    def _make_test_runner(self) -> Runner | None:
        """Return a runner that only captures, unless tasks are to run in this test."""
        from .servers.daphne import is_serving  # They need the app registry.
        from .testing.capture import CapturingRunner
        from .testing.each_test import begin_each_test_anew

        begin_each_test_anew()
        # A test's live server may be a Daphne, in a process of its own: nobody would see there what was captured.
        if self._is_live or is_serving():
            return None
        return CapturingRunner(get_settings(), self.registry)

    def _make_real_runner(self) -> Runner:
        from django.db import connections, router  # Both need the app registry, as all below.

        from .journal.journal import Journal
        from .journal.statements import SUPPORTED_VENDORS
        from .live.broadcaster import Broadcaster
        from .maintenance.block_watcher import BlockWatcher
        from .maintenance.claimer import Claimer
        from .maintenance.limit_watcher import LimitWatcher
        from .maintenance.pruner import Pruner
        from .maintenance.push import Push
        from .maintenance.requests import Requests
        from .maintenance.rescue import Rescuer
        from .maintenance.rollup_writer import RollupWriter
        from .maintenance.sampler import Sampler
        from .maintenance.spool_reader import SpoolReader
        from .maintenance.watcher import Watcher
        from .models import BackgroundTask
        from .runtime.lanes import Lanes
        from .runtime.runner import Runner

        settings = get_settings()
        vendor = connections[router.db_for_write(BackgroundTask)].vendor
        if vendor not in SUPPORTED_VENDORS:
            raise ImproperlyConfigured(f"bgtasks cannot keep its rows in {vendor}; run `manage.py check` for more.")
        lanes = Lanes(settings.db_lanes or (1 if vendor == "sqlite" else 4))
        journal = Journal(settings, self.registry)
        runner = Runner(settings, self.registry, journal, lanes)
        push = Push(runner)
        rollup_writer = RollupWriter(runner)
        journal.services = [
            Requests(runner),
            Rescuer(runner),
            LimitWatcher(runner),
            Claimer(runner),
            Watcher(runner, push),
            BlockWatcher(runner),
            Sampler(runner),
            SpoolReader(runner),
            Pruner(runner),
            rollup_writer,
            Broadcaster(runner),
        ]
        journal.on_end = rollup_writer.flush_last

        def begin_on(loop: asyncio.AbstractEventLoop) -> None:
            self._look_for_drain(loop)
            push.mailbox.open_on(loop)

        runner.loops.on_new = begin_on
        return runner

    def find_runner(self) -> Runner | None:
        """Return this process's runner if it has been made; none is made for the question."""
        return self.__dict__.get("runner")

    def _look_for_drain(self, loop: asyncio.AbstractEventLoop) -> None:
        """See to it that this process, which has got this loop, is told of its end; say so if it is not."""
        from .servers.daphne import hang_drain_on_reactor  # Needs the app registry.

        runner = self.__dict__["runner"]
        journal = runner.journal
        if journal.has_lifespan:
            return
        if loop is runner.loops.bridge:
            # A WSGI worker of gunicorn ends as an interpreter does, and that drains. A script may just be killed.
            journal.has_lifespan = name_server() == "gunicorn"
        elif hang_drain_on_reactor(loop):
            journal.has_lifespan = True
            journal.start()
        elif is_server():
            log(logging.WARNING, NO_DRAIN, name_server())

    async def _start(self, **kwargs: Any) -> None:
        told = "The server (%s) has told of its start: before its end running tasks are drained."
        log(logging.INFO, told, name_server())
        self.runner.journal.start()

    async def _drain(self, stop_asked_at: float, asked_by: str = "lifespan", **kwargs: Any) -> None:
        deadline = self.runner.settings.find_deadline(stop_asked_at, time.monotonic())
        self._deadline = deadline + SLACK
        while True:
            try:
                await self.runner.drain(asked_by, deadline)
            except asyncio.CancelledError:
                # The server has no patience left, and says so more than once. What it cancelled it still waits for: the
                # verdicts can be written, and that is bounded by the deadline.
                if self.runner.drainer is not None:
                    self.runner.drainer.hurry()
            else:
                return

    def go_live(self) -> None:
        """Have tasks run from now on, in tests too, until `shut_down`: in tests they are captured otherwise."""
        self._is_live = True
        self.begin_anew()

    def shut_down(self) -> None:
        """End the runtime's threads. A later `fire` in this process, as after another start-up, begins anew."""
        self._is_live = False
        runner = self.find_runner()
        if runner is not None:
            runner.shut_down(self._deadline)
            self._deadline = None

    def _drain_at_exit(self) -> None:
        runner = self.find_runner()
        if runner is not None and not runner.journal.is_stopped:
            runner.drain_at_exit()
            runner.shut_down()

    def begin_anew(self) -> None:
        """Forget a runtime that was shut down, or only captured: a server may start twice in a process, as in tests."""
        runner = self.find_runner()
        if runner is not None and runner.journal.is_stopped:  # Of one that only captures it always is.
            self._forget()

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self.registry = Registry()
        self.__dict__.pop("runner", None)


def _call_before_threads_end(function: Callable[[], None]) -> None:
    """
    Have a function called when the interpreter exits and threads still work.

    `atexit` is too late: by then executors refuse work (Python 3.9) and no thread can be started (3.12). What the
    standard library's own executors use is private; they have to be imported first, since the last comes first.
    """
    register = getattr(threading, "_register_atexit", atexit.register)
    register(function)
