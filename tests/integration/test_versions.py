"""Rows of another code than that of the process that claims them: older, newer, or under a name of before."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

import bgtasks
from bgtasks.models import BackgroundTask
from tests.conftest import Runtime, read_row


class Fired:
    """Stands for the handle of a row that somebody else has written."""

    def __init__(self, row: BackgroundTask) -> None:
        self.id = row.pk


async def write_row(name: str, *args: Any, **more: Any) -> Fired:
    values = {"name": name, "args": list(args), "created_at": timezone.now(), "transitions": []}
    return Fired(await BackgroundTask.objects.acreate(**(values | more)))


# Aliases.


async def test_a_row_under_an_old_name_is_run_by_the_new_function(runtime: Runtime) -> None:
    @bgtasks.task(name="shop.send", aliases=["shop.old_send"])
    async def send(number: int) -> int:
        return number * 2

    found = await read_row(await write_row("shop.old_send", 21))
    new = await read_row(bgtasks.fire(send, 1))

    assert (found.status, found.result, found.name) == ("SUCCESSFUL", 42, "shop.old_send")
    assert new.name == "shop.send"


@pytest.mark.django_db
def test_the_admin_offers_a_function_once_and_finds_all_its_rows(client: Any) -> None:
    @bgtasks.task(name="shop.send", aliases=["shop.old_send"])
    async def send(number: int) -> int:
        return number

    for name in ("shop.send", "shop.old_send", "shop.other"):
        BackgroundTask.objects.create(name=name, args=[5], created_at=timezone.now())
    client.force_login(User.objects.create(username="root", is_staff=True, is_superuser=True))

    body = client.get("/admin/bgtasks/backgroundtask/", {"name": "shop.send"}).content.decode().replace("<wbr>", "")
    old = client.get("/admin/bgtasks/backgroundtask/", {"name": "shop.old_send"}).content.decode()
    row = BackgroundTask.objects.get(name="shop.old_send")
    page = client.get(f"/admin/bgtasks/backgroundtask/{row.pk}/change/").content.decode()

    assert body.count("shop.send</option>") == 1
    assert "shop.old_send</option>" not in body
    assert body.count('class="bgtasks-name"') == 2
    assert old.count('class="bgtasks-name"') == 1
    assert "number" in page  # The parameter, known by the old name too.
