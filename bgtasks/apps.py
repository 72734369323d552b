"""The AppConfig: holds the registry, puts the runtime of this process together, and ends it."""

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
from .process.state import ProcessState
from .runtime.drain_deadline import find_deadline

if TYPE_CHECKING:
    from .api import Runtime  # For types only: the runner imports models, which are not loaded yet.
    from .runtime.runner import Runner

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
        self._deadline: float | None = None  # Of the current drain.
        self._is_live = False  # Whether tasks run in tests too.
        self._runner: Runner | None = None
        self.registry = Registry()
        autodiscover_modules("tasks")
        signals.lifespan_startup.connect(self._start, dispatch_uid="bgtasks")
        signals.lifespan_shutdown.connect(self._drain, dispatch_uid="bgtasks")
        os.register_at_fork(after_in_child=self._forget)
        _call_before_threads_end(self._drain_at_exit)

    # Making the runtime.

    @cached_property
    def runtime(self) -> Runtime:
        """The runtime of this process, made when it is first needed: earlier threads would not survive a fork."""
        with self._lock:
            runtime: Runtime | None = self.__dict__.get("runtime")
            if runtime is None:
                runtime = self._make_test_runtime() if is_under_test() else None
                if runtime is None:
                    runtime = self._runner = self._make_runner()
                self.__dict__["runtime"] = runtime  # Within the lock: another thread may wait for it.
            return runtime

    def find_runner(self) -> Runner | None:
        """Return the runner if it has been made. It is not where tests only capture tasks."""
        return self._runner

    def _make_test_runtime(self) -> Runtime | None:
        """Return a runtime that only captures, unless tasks are to run in this test."""
        from .servers.daphne import is_serving  # They need the app registry.
        from .testing.capture import CapturingRuntime
        from .testing.each_test import begin_each_test_anew

        begin_each_test_anew()
        # The live server of a test may be a Daphne, in a process of its own: the test would not see its captured tasks.
        if self._is_live or is_serving():
            return None
        return CapturingRuntime(get_settings(), self.registry)

    def _make_runner(self) -> Runner:
        from django.db import connections, router  # All below need the app registry.

        from .journal.journal import Journal
        from .journal.statements import SUPPORTED_VENDORS
        from .live.broadcaster import Broadcaster
        from .maintenance.services import make_services
        from .models import BackgroundTask
        from .runtime.lanes import Lanes
        from .runtime.loops import Loops
        from .runtime.runner import Runner

        settings = get_settings()
        vendor = connections[router.db_for_write(BackgroundTask)].vendor
        if vendor not in SUPPORTED_VENDORS:
            raise ImproperlyConfigured(f"bgtasks cannot keep its rows in {vendor}; run `manage.py check` for more.")
        state = ProcessState(is_server())
        loops = Loops()
        journal = Journal(settings, self.registry, state, loops.find_main)
        lanes = Lanes(settings.db_lanes or (1 if vendor == "sqlite" else 4))
        runner = Runner(settings, state, self.registry, journal, loops, lanes)
        services = make_services(runner)
        broadcaster = Broadcaster(journal.tally, loops.find_main)
        runner.attach(services.push)
        journal.attach(runner.commits, (*services.all, broadcaster), services.push, services.rollup_writer.flush_last)

        def begin_on(loop: asyncio.AbstractEventLoop) -> None:
            _look_for_drain(runner, loop)
            services.push.mailbox.open_on(loop)

        loops.on_new = begin_on
        return runner

    # The server's start and stop.

    async def _start(self, **kwargs: Any) -> None:
        message = "The server (%s) has announced its start: before its end running tasks are drained."
        log(logging.INFO, message, name_server())
        if (runner := self._find_or_make_runner()) is not None:
            runner.journal.start()

    async def _drain(self, stop_asked_at: float, asked_by: str = "lifespan", **kwargs: Any) -> None:
        deadline = find_deadline(get_settings(), stop_asked_at, time.monotonic())
        self._deadline = deadline + SLACK
        while True:
            try:
                await self.runtime.drain(asked_by, deadline)
            except asyncio.CancelledError:
                # The server has no patience left, and may cancel more than once. It still waits for the tasks that it
                # cancelled: their verdicts can be written, and that is bounded by the deadline.
                if self._runner is not None:
                    self._runner.hurry_drain()
            else:
                return

    def _find_or_make_runner(self) -> Runner | None:
        self.runtime  # noqa: B018  # Makes it.
        return self._runner

    def go_live(self) -> Runner:
        """
        Run tasks from now on, in tests too, until `shut_down`: tests capture them otherwise.

        Returns:
            The runner, a new one if the last one was shut down.
        """
        self._is_live = True
        self.begin_anew()
        runner = self._find_or_make_runner()
        assert runner is not None  # Nothing is captured in live mode.
        return runner

    def shut_down(self) -> None:
        """End the threads of the runtime. A later `fire` in this process, as after another start-up, begins anew."""
        self._is_live = False
        deadline, self._deadline = self._deadline, None
        if self._runner is not None:
            self._runner.shut_down(deadline)

    def _drain_at_exit(self) -> None:
        if self._runner is not None and not self._runner.state.is_stopped:
            self._runner.drain_at_exit()
            self._runner.shut_down()

    def begin_anew(self) -> None:
        """
        Forget a runtime that was shut down, or one that only captures.

        A server may start twice in a process, as in tests.
        """
        # No runner and no runtime: another thread may be making the first one.
        is_over = "runtime" in self.__dict__ if self._runner is None else self._runner.state.is_stopped
        if is_over:
            self._forget()

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._runner = None
        self.registry = Registry()
        self.__dict__.pop("runtime", None)


def _look_for_drain(runner: Runner, loop: asyncio.AbstractEventLoop) -> None:
    """Ensure that a process with a new event loop hears of its end; log a warning if it does not."""
    from .servers.daphne import hang_drain_on_reactor  # Needs the app registry.

    state = runner.state
    if state.hears_its_end:
        return
    if loop is runner.loops.bridge:
        # A WSGI worker of gunicorn ends as an interpreter does, and that drains. A script may just be killed.
        state.hears_its_end = name_server() == "gunicorn"
    elif hang_drain_on_reactor(loop):
        state.hears_its_end = True
        runner.journal.start()
    elif is_server():
        log(logging.WARNING, NO_DRAIN, name_server())


def _call_before_threads_end(function: Callable[[], None]) -> None:
    """
    Register a function to be called when the interpreter exits and threads still work.

    `atexit` is too late: by then executors refuse work (Python 3.9) and no thread can be started (3.12). The function
    that the standard library's own executors use is private. They have to be imported first, since the last one
    registered is called first.
    """
    register = getattr(threading, "_register_atexit", atexit.register)
    register(function)
