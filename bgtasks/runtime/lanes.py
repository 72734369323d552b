"""
Lanes: the few threads, each with its database connections, on which the tasks' ORM calls run.

Without lanes asgiref gives each task that outlives its request a thread and a connection of its own, which are never
closed. A lane is an executor with one thread. asgiref uses it for the thread-sensitive calls in the lane's
`ThreadSensitiveContext`, which is never entered or left.
"""

from __future__ import annotations

import contextlib
import contextvars
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from asgiref.sync import AsyncToSync, SyncToAsync, ThreadSensitiveContext
from django.db import connections

from ..process.connections import own_connections, unused_connections

LONGEST_JOIN = 1.0  # Seconds to wait for threads at shutdown.
IDLE_SECONDS = 0.5  # Seconds after which an idle thread closes its connections.


class DaemonExecutor(Executor):
    """
    An executor with a bounded number of daemon threads, which start when they are first needed.

    Unlike a `ThreadPoolExecutor` it still works while the interpreter exits, when the last rows are written, and its
    threads never keep a process from ending. An idle thread closes its database connections.
    """

    def __init__(self, name: str, threads: int, is_unused: Callable[[], bool] = lambda: True) -> None:
        self._name = name
        self._size = threads
        self._is_unused = is_unused
        self._threads: list[threading.Thread] = []
        self._busy = 0  # Submitted calls that are not done. Guarded by the lock, as the list of threads.
        self._lock = threading.Lock()
        self._items: queue.SimpleQueue[tuple[Future[Any], Callable[..., Any], Any, Any] | None] = queue.SimpleQueue()
        self._closed = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError(f"{self._name} is shut down.")
            self._busy += 1
            if len(self._threads) < min(self._busy, self._size):
                name = f"{self._name}-{len(self._threads)}"
                thread = threading.Thread(target=self._run, daemon=True, name=name)
                thread.start()
                self._threads.append(thread)
        self._items.put((future, fn, args, kwargs))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        with self._lock:
            self._closed = True
        for _ in self._threads:
            self._items.put(None)
        if wait:
            self.join(time.monotonic() + LONGEST_JOIN)

    def join(self, deadline: float) -> None:
        """Wait for the threads to end, until a moment on the monotonic clock: the code of a task may never end."""
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0))

    def has_threads(self) -> bool:
        return bool(self._threads)

    def owns_current_thread(self) -> bool:
        return threading.current_thread() in self._threads

    def _run(self) -> None:
        with own_connections():
            self._carry_out()

    def _carry_out(self) -> None:
        has_connection = False
        while True:
            try:
                with unused_connections():
                    item = self._items.get(timeout=IDLE_SECONDS if has_connection else None)
            except queue.Empty:
                if self._is_unused():
                    with contextlib.suppress(Exception):  # A broken connection is closed all the same.
                        connections.close_all()
                    has_connection = False
                continue
            if item is None:
                return
            future, fn, args, kwargs = item
            if future.set_running_or_notify_cancel():
                try:
                    result = fn(*args, **kwargs)
                except BaseException as error:
                    future.set_exception(error)
                else:
                    future.set_result(result)
                    del result
            del item, future, fn, args, kwargs  # The next wait may be long.
            with self._lock:
                self._busy -= 1
            has_connection = heal_connections()


def heal_connections() -> bool:
    """
    Close this thread's broken connections; return whether any connection is open.

    Django does this at the start and end of each request, but a lane has no requests. After a restart of the database
    its connection would stay broken for ever.
    """
    has_connection = False
    for connection in connections.all(initialized_only=True):
        if connection.connection is None:
            continue
        if connection.errors_occurred and not connection.in_atomic_block:
            with contextlib.suppress(Exception):  # If the check itself fails, Django has closed the connection.
                connection.close_if_unusable_or_obsolete()
        has_connection = has_connection or connection.connection is not None
    return has_connection


def _find_variable() -> contextvars.ContextVar[Any] | None:
    """Return the context variable behind `AsyncToSync.executors`: the one that an assignment to it sets."""
    context = contextvars.Context()
    context.run(setattr, AsyncToSync.executors, "current", None)
    return next(iter(context), None)


_executors = _find_variable()


class Lane:
    """One database thread, shared by the tasks that lease it."""

    def __init__(self, name: str) -> None:
        self.leases: list[None] = []  # One item for each lease: two loops may share a lane, and these calls are atomic.
        # A connection may have state of a live task, such as a server-side cursor. So it is closed only without leases.
        self.executor = DaemonExecutor(name, threads=1, is_unused=lambda: not self.leases)
        self.context = ThreadSensitiveContext()
        # All versions of asgiref from 3.8 on use this mapping. The public argument `executor` exists from 3.13 on, but
        # with it the calls of tasks that outlive the context are refused.
        SyncToAsync.context_to_thread_executor[self.context] = self.executor  # type: ignore[assignment, unused-ignore]

    def enter(self) -> None:
        """Make this lane the thread of all thread-sensitive calls in the current context."""
        SyncToAsync.thread_sensitive_context.set(self.context)
        # The context is a copy of the request's, in which sync code may have left two values: its thread, which has
        # ended, and a guard against deadlocks. Most requests leave none. A look takes 0.1 µs, an assignment 2 µs.
        if _executors is None or _executors.get(None) is not None:
            AsyncToSync.executors.current = None
        if SyncToAsync.deadlock_context.get(False):
            SyncToAsync.deadlock_context.set(False)

    def release(self) -> None:
        """End a lease."""
        self.leases.pop()


class IsolatedLane(Lane):
    """A lane for one task at a time, whose connections are closed after each task."""

    def release(self) -> None:
        # State that the task has left, such as an open transaction, must not reach the next task.
        if self.executor.has_threads():
            with contextlib.suppress(RuntimeError):  # It may be shut down.
                self.executor.submit(connections.close_all)
        super().release()


class Lanes:
    """A fixed number of lanes. A task keeps its lane for its whole life."""

    def __init__(self, count: int, name: str = "lane", kind: type[Lane] = Lane) -> None:
        self._lanes = [kind(f"bgtasks-{name}-{index}") for index in range(count)]

    def lease(self) -> Lane:
        """Lease the lane with the fewest leases."""
        lane = min(self._lanes, key=_count_leases) if len(self._lanes) > 1 else self._lanes[0]
        lane.leases.append(None)
        return lane

    def is_lane(self) -> bool:
        """Return whether the current thread belongs to a lane."""
        return any(lane.executor.owns_current_thread() for lane in self._lanes)

    def shut_down(self) -> None:
        for lane in self._lanes:
            lane.executor.shutdown(wait=False)
            SyncToAsync.context_to_thread_executor.pop(lane.context, None)

    def join(self, deadline: float) -> None:
        for lane in self._lanes:
            lane.executor.join(deadline)


class IsolatedLanes(Lanes):
    """Lanes for one task each. A gate lets through only as many tasks as there are lanes, see `Limits`."""

    def __init__(self, count: int) -> None:
        super().__init__(count, "isolated", IsolatedLane)


def _count_leases(lane: Lane) -> int:
    return len(lane.leases)
