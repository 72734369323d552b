"""The rule of this folder: each excluded use fails a test."""

from __future__ import annotations

import asyncio
import os
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from django.db import connection
from django.test import SimpleTestCase, TestCase

from bgtasks.models import BackgroundTask
from tests.unit import purity


def connect() -> None:
    with socket.socket() as client:
        client.connect(("127.0.0.1", 9))


def serve() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))


def start_process_on_a_loop() -> None:
    asyncio.run(asyncio.create_subprocess_exec(sys.executable, "-c", ""))


def start_thread(name: str) -> None:
    thread = threading.Thread(target=lambda: None, name=name)
    thread.start()
    thread.join()


@pytest.mark.parametrize(
    ("use", "event"),
    [
        (lambda: subprocess.run([sys.executable, "-c", ""], check=False), "subprocess.Popen"),
        (start_process_on_a_loop, "subprocess.Popen"),
        (os.fork, "os.fork"),
        (lambda: os.system("true"), "os.system"),
        (connect, "socket.connect"),
        (serve, "socket.bind"),
        (lambda: sqlite3.connect(":memory:"), "sqlite3.connect"),
        (connection.connect, "sqlite3.connect"),
        (lambda: start_thread("bgtasks-journal"), "a thread of the runtime"),
    ],
)
def test_its_use_fails_the_test_even_if_the_error_is_handled(use: Callable[[], Any], event: str) -> None:
    with pytest.raises(pytest.fail.Exception, match=event) as failure, purity.enforced(), suppress(purity.Impure):
        use()

    assert purity.ADVICE in str(failure.value)


def test_other_threads_are_allowed() -> None:
    start_thread("another")


def test_the_orm_is_blocked() -> None:
    with pytest.raises(RuntimeError, match="Database access not allowed"):
        BackgroundTask.objects.count()


def uses_nothing() -> None: ...


def uses_the_database(db: None) -> None: ...


def uses_transactions(transactional_db: None) -> None: ...


def uses_the_runtime(runtime: Any) -> None: ...


def uses_a_server(start_server: Any) -> None: ...


@pytest.mark.django_db
def is_marked() -> None: ...


class InDatabase(TestCase):
    def works(self) -> None: ...


class WithoutDatabase(SimpleTestCase):
    def works(self) -> None: ...


@pytest.mark.parametrize(
    ("sample", "asks"),
    [
        (uses_the_database, True),
        (uses_transactions, True),
        (uses_the_runtime, True),
        (uses_a_server, True),
        (is_marked, True),
        (uses_nothing, False),
    ],
)
def test_who_asks_for_a_database_is_found(request: pytest.FixtureRequest, sample: Any, asks: bool) -> None:
    item = pytest.Function.from_parent(request.node.parent, name="sample", callobj=sample)

    assert purity.asks_for_database(item) == asks


@pytest.mark.parametrize(("sample", "asks"), [(InDatabase, True), (WithoutDatabase, False)])
def test_a_class_that_asks_for_a_database_is_found(request: pytest.FixtureRequest, sample: Any, asks: bool) -> None:
    parent = pytest.Class.from_parent(request.node.getparent(pytest.Module), name=sample.__name__, obj=sample)
    item = pytest.Function.from_parent(parent, name="works", callobj=sample.works)

    assert purity.asks_for_database(item) == asks
