"""Members of staff, logged in to the admin."""

from __future__ import annotations

from django.contrib.auth.models import Permission, User
from django.test import Client


def log_in(*permissions: str, name: str = "ann", sees_tasks: bool = True) -> Client:
    """Return the client of a member of staff who has these permissions, and that to look at tasks."""
    names = {*permissions, *(["view_backgroundtask"] if sees_tasks else [])}
    user = User.objects.create(username=name, is_staff=True)
    wanted = Permission.objects.filter(codename__in=names)
    assert len(wanted) == len(names)
    user.user_permissions.set(wanted)
    client = Client()
    client.force_login(user)
    return client
