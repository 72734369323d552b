"""Which event loop a task runs on: the server's where there is one, else a bridge loop of our own."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable

from asgiref.sync import AsyncToSync, SyncToAsync


class Loops:
    """The loops of this process that a task may run on."""

    def __init__(self) -> None:
        self.home: asyncio.AbstractEventLoop | None = None  # The ASGI server's, registered by `Lifespan`.
        self.bridge: asyncio.AbstractEventLoop | None = None
        self.on_new: Callable[[asyncio.AbstractEventLoop], None] = lambda loop: None
        self._bridge_lock = threading.Lock()
        self._bridge_thread: threading.Thread | None = None

    def register_home(self, loop: asyncio.AbstractEventLoop) -> None:
        self.home = loop
        self.on_new(loop)

    def pick(self) -> asyncio.AbstractEventLoop:
        """
        Return the loop for a task that is fired here.

        A running loop proves nothing: under WSGI and the test client it is one that asgiref ends with the view.

        Raises:
            RuntimeError: the interpreter is exiting and starts no thread any more.
        """
        if self.home is not None and self.home.is_running():
            return self.home
        found = _find_servers_loop()
        if found is not None:
            self.register_home(found)
            return found
        return self.start_bridge()

    def find_main(self) -> asyncio.AbstractEventLoop | None:
        """Return the loop that this process has by now, the server's if there is one."""
        if self.home is not None and self.home.is_running():
            return self.home
        return self.bridge

    def start_bridge(self) -> asyncio.AbstractEventLoop:
        """Return the loop on a thread of our own, started when it is first needed: a fork leaves threads behind."""
        with self._bridge_lock:
            if self.bridge is None:
                loop = asyncio.new_event_loop()
                thread = threading.Thread(target=_run_loop, args=(loop,), daemon=True, name="bgtasks-bridge")
                thread.start()
                self.bridge, self._bridge_thread = loop, thread
                self.on_new(loop)
            return self.bridge

    def stop_bridge(self, deadline: float) -> None:
        """End the bridge loop, and wait for its thread until a moment of the monotonic clock."""
        with self._bridge_lock:
            bridge, self.bridge = self.bridge, None
            thread, self._bridge_thread = self._bridge_thread, None
        if bridge is not None and thread is not None:
            bridge.call_soon_threadsafe(bridge.stop)
            if thread is not threading.current_thread():
                thread.join(max(deadline - time.monotonic(), 0))


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.close()


def _find_servers_loop() -> asyncio.AbstractEventLoop | None:
    """Return the ASGI server's loop behind the running view, async or sync, when no `Lifespan` has told of it."""
    running = asyncio._get_running_loop()
    if running is not None:
        return running if _is_a_servers(running) else None
    behind = getattr(SyncToAsync.threadlocal, "main_event_loop", None)
    if behind is None or getattr(SyncToAsync.threadlocal, "main_event_loop_pid", None) != os.getpid():
        return None
    return behind if behind.is_running() and _is_a_servers(behind) else None


def _is_a_servers(loop: asyncio.AbstractEventLoop) -> bool:
    # Django's ASGI handler opens a thread-sensitive context for each request. In a lane it is ours, not a request's.
    in_request = SyncToAsync.thread_sensitive_context.get(None) is not None
    return in_request and loop not in AsyncToSync.loop_thread_executors
