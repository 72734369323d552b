"""Members of staff, logged in to the admin."""

from __future__ import annotations

from django.contrib.auth.models import Permission, User
from django.test import Client


def log_in(*permissions: str, name: str = "ann") -> Client:
    """Return the client of a member of staff who has these permissions beside that to look at tasks."""
    user = User.objects.create(username=name, is_staff=True)
    wanted = Permission.objects.filter(codename__in=["view_backgroundtask", *permissions])
    assert len(wanted) == len(permissions) + 1
    user.user_permissions.set(wanted)
    client = Client()
    client.force_login(user)
    return client
