"""The options of the tasks with policies, for their declarations and for the verifier."""

from __future__ import annotations

KEYS = 5
LATER = 0.3  # Seconds.
MOST_AT_ONCE = 2
MOST_PER_SECOND = 10


def key_of(tag: str) -> str:
    """Return the key of a task by the name that its request gave it, such as "t12"."""
    return f"key {int(tag[1:]) % KEYS}"
