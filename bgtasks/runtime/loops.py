"""The event loops on which tasks run: the server's, or a bridge loop in processes without a server."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable

from asgiref.sync import AsyncToSync, SyncToAsync


class Loops:
    """
    The loops of this process on which tasks may run.

    Attributes:
        home: the loop of the ASGI server.
        bridge: our own loop, on a thread of ours.
        on_new: called with each loop that becomes one of them.
    """

    def __init__(self) -> None:
        self.home: asyncio.AbstractEventLoop | None = None
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

        That need not be the running one: under WSGI and the test client, asgiref ends the running loop with the view.

        Raises:
            RuntimeError: the interpreter is exiting and starts no threads any more.
        """
        if self.home is not None and self.home.is_running():
            return self.home
        found = _find_servers_loop()
        if found is not None:
            self.register_home(found)
            return found
        return self.start_bridge()

    def find_main(self) -> asyncio.AbstractEventLoop | None:
        """Return the loop of this process, the server's if there is one. None: there is no loop yet."""
        if self.home is not None and self.home.is_running():
            return self.home
        return self.bridge

    def start_bridge(self) -> asyncio.AbstractEventLoop:
        """Return the bridge loop. It is started when it is first needed, since a fork does not copy threads."""
        with self._bridge_lock:
            if self.bridge is None:
                loop = asyncio.new_event_loop()
                thread = threading.Thread(target=_run_loop, args=(loop,), daemon=True, name="bgtasks-bridge")
                thread.start()
                self.bridge, self._bridge_thread = loop, thread
                self.on_new(loop)
            return self.bridge

    def stop_bridge(self, deadline: float) -> None:
        """Stop the bridge loop, and wait for the end of its thread, until a moment on the monotonic clock."""
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
    """Return the loop of the ASGI server that runs the current view, async or sync. No `Lifespan` has registered it."""
    running = asyncio._get_running_loop()
    if running is not None:
        return running if _is_a_servers(running) else None
    behind = getattr(SyncToAsync.threadlocal, "main_event_loop", None)
    if behind is None or getattr(SyncToAsync.threadlocal, "main_event_loop_pid", None) != os.getpid():
        return None
    return behind if behind.is_running() and _is_a_servers(behind) else None


def _is_a_servers(loop: asyncio.AbstractEventLoop) -> bool:
    # Django's ASGI handler opens a thread-sensitive context for each request. A lane has such a context too.
    in_request = SyncToAsync.thread_sensitive_context.get(None) is not None
    return in_request and loop not in AsyncToSync.loop_thread_executors
