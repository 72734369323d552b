"""
The live admin: tells the pages that staff has open that something has changed, over a WebSocket of Channels.

What has changed is not sent: the page asks for itself again, so that each answer passes the admin's own permissions.
"""

from __future__ import annotations

from django.conf import settings

GROUP = "bgtasks.admin"
PATH = "bgtasks/live/"

_is_routed = False


def is_routed() -> bool:
    """Tell whether this process takes the WebSockets of the admin, and has a channel layer to hear from."""
    return _is_routed and bool(getattr(settings, "CHANNEL_LAYERS", None))


def mark_routed() -> None:
    global _is_routed
    _is_routed = True
