"""What the tasks with policies are declared with: the project declares it so, the verifier checks it so."""

from __future__ import annotations

KEYS = 5
LATER = 0.3  # Seconds.
MOST_AT_ONCE = 2
MOST_PER_SECOND = 10


def key_of(tag: str) -> str:
    """Return the key of what whoever fired it calls "t12"."""
    return f"key {int(tag[1:]) % KEYS}"
