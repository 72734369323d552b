"""
The signals of bgtasks.

The `task_…` signals announce a change of a task, after the commit that recorded it. Receivers are called on the
journal's thread, never inside `fire`; a slow receiver delays the recording, and an exception in a receiver is logged.
The sender is the `Task`, or None for a coroutine. The keywords are `task_id` (UUID), `name`, `status`, `previous` (a
status, or None), `attempt` and `process_id` (UUID). Several changes in one commit are announced one by one, in their
order. If a task is ended by hand in a process without a journal, its end is announced on the calling thread, with None
as the `process_id`.

The other signals announce the phases of the server. Receivers are called on the server's event loop, and may be async.
The sender is `Lifespan`.
"""

from django.dispatch import Signal

__all__ = [
    "drained",
    "lifespan_shutdown",
    "lifespan_startup",
    "stop_asked",
    "task_finished",
    "task_fired",
    "task_started",
]

task_fired = Signal()  # The task is recorded.
task_started = Signal()  # An attempt started.
task_finished = Signal()  # The task reached a final status.

lifespan_startup = Signal()  # Before the server accepts requests. An exception keeps it from starting.
stop_asked = Signal()  # The process was asked to stop. End streams here, since the server waits for open requests.
lifespan_shutdown = Signal()  # Before the server stops. The drain is a receiver.
drained = Signal()  # After the drain. Close the resources of the tasks here.
