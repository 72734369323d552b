"""
What bgtasks announces.

The `task_…` signals are sent robustly, after the commit that recorded the change, on the journal's thread and never
inside `fire`; a receiver that is slow holds up the recording. Their sender is the `Task` (None for a coroutine), their
keywords `task_id` (UUID), `name`, `status`, `previous` (a status or None), `attempt` and `process_id` (UUID). Changes
that fall between two writes are announced one by one, in their order. Where no journal runs, what is ended by hand is
announced on the thread that did it, with None as the `process_id`.

The others are sent on the server's event loop with `Lifespan` as the sender: receivers may be async.
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

task_fired = Signal()
task_started = Signal()
task_finished = Signal()

lifespan_startup = Signal()  # Before the server takes requests. An error keeps it from starting.
stop_asked = Signal()  # The process was told to stop. Streams end here: the server waits for them before it shuts down.
lifespan_shutdown = Signal()  # The server is about to stop; the drain is a receiver of this.
drained = Signal()  # The tasks are done: close here what they used.
