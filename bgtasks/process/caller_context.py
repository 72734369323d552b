"""The caller's contextvars, for the task that it fires: a copy that shares nothing with the caller."""

from __future__ import annotations

import contextvars

from asgiref.local import Local


def _copy_apart() -> contextvars.Context:
    """
    Copy the context and the values of its asgiref Locals.

    Up to asgiref 3.8 all attributes of a Local are in one dictionary, which the contexts made from one another share:
    a language that the caller switches back, or the thread behind its `async_to_sync`, would change inside the task.
    """
    context = contextvars.copy_context()
    for variable, value in context.items():
        if variable.name == "asgiref.local" and isinstance(value, dict):
            context.run(variable.set, value.copy())
    return context


def _shares_its_attributes() -> bool:
    """Return whether copied contexts share the values of asgiref's Locals, by trying it."""
    local = Local()
    local.value = 1
    contextvars.copy_context().run(setattr, local, "value", 2)
    return bool(local.value == 2)


# Chosen once: it is called by every `fire`.
copy_context = _copy_apart if contextvars.Context().run(_shares_its_attributes) else contextvars.copy_context
