"""The system checks, and the errors of a project that does not run them."""

from __future__ import annotations

from typing import Any

import pytest
from django.apps import apps
from django.core.asgi import get_asgi_application
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

import bgtasks
from bgtasks import checks
from bgtasks.lifespan import Lifespan

unwrapped = get_asgi_application()
wrapped = Lifespan(unwrapped)


class ProtocolTypeRouter:
    """Like the class of Channels, which the check recognizes by its name without an import."""

    def __init__(self, application_mapping: dict[str, Any]) -> None:
        self.application_mapping = application_mapping


router_without = ProtocolTypeRouter({"http": unwrapped})
router_with = ProtocolTypeRouter({"http": unwrapped, "lifespan": Lifespan()})
server_middleware = object()


def find_ids() -> set[str]:
    return {found.id for found in run_checks(tags=["bgtasks"]) if found.id}


def test_a_project_that_is_well_has_no_message() -> None:
    assert find_ids() == set()


def test_every_message_has_a_hint() -> None:
    with override_settings(BGTASKS={"X": 1}, ASGI_APPLICATION=f"{__name__}.unwrapped"):
        messages = run_checks(tags=["bgtasks"])
    assert len(messages) >= 2
    assert all(found.hint for found in messages)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("unwrapped", {"bgtasks.W001"}),
        ("router_without", {"bgtasks.W001"}),
        ("wrapped", set()),
        ("router_with", set()),
        ("server_middleware", set()),  # The application inside it is unknown.
        ("missing", set()),
    ],
)
def test_lifespan_that_is_not_wired(name: str, expected: set[str]) -> None:
    with override_settings(ASGI_APPLICATION=f"{__name__}.{name}"):
        assert find_ids() == expected


def test_the_application_is_found_beside_the_root_urlconf() -> None:
    with override_settings(ROOT_URLCONF="tests.app.urls"):
        assert isinstance(checks._find_asgi_application(), Lifespan)


def test_wrong_settings_are_errors_in_checks_and_at_start() -> None:
    with override_settings(BGTASKS={"MAX_RUNNIG": 5}):
        [message] = [found for found in run_checks(tags=["bgtasks"]) if found.id == "bgtasks.E001"]
        assert "MAX_RUNNING" in message.hint
        with pytest.raises(ImproperlyConfigured, match="MAX_RUNNING"):
            apps.get_app_config("bgtasks").ready()


@pytest.mark.parametrize(
    ("vendor", "options", "expected"),
    [
        ("sqlite", {}, {"bgtasks.W002"}),
        ("sqlite", {"transaction_mode": "IMMEDIATE"}, set()),
        ("oracle", {}, {"bgtasks.E002"}),
        ("postgresql", {"pool": {"max_size": 5}}, {"bgtasks.W003"}),
        ("postgresql", {"pool": {"max_size": 20}}, set()),
        ("postgresql", {"pool": True}, {"bgtasks.W003"}),
    ],
)
def test_the_database(monkeypatch: Any, vendor: str, options: dict[str, Any], expected: set[str]) -> None:
    class Connection:
        settings_dict = {"OPTIONS": options}

    Connection.vendor = vendor
    monkeypatch.setattr(checks, "connections", {"default": Connection})
    assert find_ids() == expected


def test_a_task_function_inside_a_function() -> None:
    @bgtasks.task(name="local")
    async def local() -> None: ...

    assert find_ids() == {"bgtasks.W004"}
