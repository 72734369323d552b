"""
The live admin: notifies open pages of changes, over a WebSocket of Channels.

A notification has no content: the page then loads itself anew, so that the admin's permissions apply to each answer.
"""

from __future__ import annotations

from django.conf import settings

GROUP = "bgtasks.admin"
PATH = "bgtasks/live/"

_is_routed = False


def is_routed() -> bool:
    """Return whether this process accepts the WebSockets of the admin, and the project has a channel layer."""
    return _is_routed and bool(getattr(settings, "CHANNEL_LAYERS", None))


def mark_routed() -> None:
    global _is_routed
    _is_routed = True
