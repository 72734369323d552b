"""Members of staff with a login to the admin."""

from __future__ import annotations

from typing import Protocol

from django.contrib.auth.models import Permission, User
from django.test import Client


def log_in(*permissions: str, name: str = "ann", sees_tasks: bool = True) -> Client:
    """Return the client of a member of staff with these permissions and that to view tasks."""
    names = {*permissions, *(["view_backgroundtask"] if sees_tasks else [])}
    user = User.objects.create(username=name, is_staff=True)
    wanted = Permission.objects.filter(codename__in=names)
    assert len(wanted) == len(names)
    user.user_permissions.set(wanted)
    client = Client()
    client.force_login(user)
    return client


# For a server in another process.


class Manageable(Protocol):
    def manage(self, *arguments: str) -> str: ...


MAKE_VIEWER = """
from django.contrib.auth.models import Permission, User
user, _ = User.objects.get_or_create(username="viewer", is_staff=True)
user.set_password("viewer")
user.save()
user.user_permissions.set(Permission.objects.filter(codename="view_backgroundtask"))
"""

MAKE_SESSION = """
from importlib import import_module
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
user = User.objects.get(username={name!r})
session = import_module(settings.SESSION_ENGINE).SessionStore()
session[SESSION_KEY] = str(user.pk)
session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
session[HASH_SESSION_KEY] = user.get_session_auth_hash()
session.save()
print("KEY", session.session_key)
"""


def make_viewer(server: Manageable) -> None:
    """Make a member of staff, "viewer", with view permissions only."""
    server.manage("shell", "-c", MAKE_VIEWER)


def cookie_of(server: Manageable, name: str) -> str:
    """Log a user in; return the cookie."""
    printed = server.manage("shell", "-c", MAKE_SESSION.format(name=name))
    return f"sessionid={printed.split('KEY ')[1].split()[0]}"
