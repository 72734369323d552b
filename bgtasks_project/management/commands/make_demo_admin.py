"""Makes the admin user of the demo, for `make demo`."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError

NAME = PASSWORD = "demo"  # noqa: S105  # Public, so the user is made in DEBUG only.


class Command(BaseCommand):
    help = "Make the user demo with the password demo, in DEBUG only, and say where to log in."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=8000, help="Where the server will listen.")

    def handle(self, *args: Any, port: int, **options: Any) -> None:
        if not settings.DEBUG:
            raise CommandError("A public password is for DEBUG only. Use createsuperuser.")
        users = get_user_model()._default_manager
        user = users.filter(username=NAME).first() or users.create_superuser(NAME, "demo@example.com", PASSWORD)
        password = PASSWORD if user.check_password(PASSWORD) else "as you changed it"
        self.stdout.write(
            f"  Demo   http://127.0.0.1:{port}/\n"
            f"  Admin  http://127.0.0.1:{port}/admin/   name: {NAME}   password: {password}\n"
            f"  Ctrl-C drains: the server waits for the running tasks, and logs those it had to cut short.\n"
        )
