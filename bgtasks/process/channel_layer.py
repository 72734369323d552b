"""The channel layer of the project, by which processes send messages to each other and to open admin pages."""

from __future__ import annotations

from typing import Any

from django.conf import settings


def find_channel_layer() -> Any:
    """Return the default layer of CHANNEL_LAYERS; None without one."""
    if not getattr(settings, "CHANNEL_LAYERS", None):
        return None
    from channels.layers import get_channel_layer  # Projects without a layer do not import Channels.

    return get_channel_layer()
