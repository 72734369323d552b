"""The push to the admin's pages: on each server with WebSockets, on two servers over Redis, and at their ends."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import expect

from bgtasks.live.consumers import FORBIDDEN, GONE
from tests.browsers import (
    WAIT,
    OpenAs,
    is_the_same,
    needs_browser,
    note_pushes,
    open_pushed,
    row_of,
    wait_until_it_grows,
)
from tests.servers import Server, find_port
from tests.sockets import LOST, Socket
from tests.staff import cookie_of, make_viewer

from .test_push import LAYERS
from .test_servers import ASGI_SERVERS, EXIT_STATUS

# Each starts servers; none depends on the kind of database.
pytestmark = [pytest.mark.slow, pytest.mark.databases("sqlite")]

StartServer = Callable[..., Server]

HUNG_UP = (GONE, 1012)  # uvicorn may be faster, and closes the sockets itself.


def open_socket(server: Server, name: str = "viewer", buffer: int | None = None) -> Socket:
    opened = Socket(server.address, buffer, Origin=server.address, Cookie=cookie_of(server, name))
    assert opened.status == 101
    return opened


def assert_one_task_was_drained(server: Server) -> None:
    assert server.count_by_status() == {"SUCCESSFUL": 1}
    [drain] = server.query("SELECT running_at_start, finished_count FROM bgtasks_drain")
    assert drain == {"running_at_start": 1, "finished_count": 1}
    assert "Traceback" not in server.log


@needs_browser
@pytest.mark.parametrize("layer", LAYERS)
def test_a_page_shows_what_another_server_runs(
    redis: str, start_with_layer: StartServer, open_at: OpenAs, tmp_path: Path, layer: str
) -> None:
    runs, shows = (start_with_layer(redis, TESTS_LIVE="1", TESTS_LAYER=layer) for _ in range(2))
    make_viewer(shows)
    gate = tmp_path / "gate"
    page = open_at(shows.address, "viewer")
    pushes = note_pushes(page)
    open_pushed(page)

    [task_id] = runs.fire("wait_for_file", str(gate))

    expect(row_of(page, task_id)).to_be_visible(timeout=WAIT)  # It asks by itself only later, since no task ran.
    wait_until_it_grows(page, task_id)
    gate.touch()
    expect(row_of(page, task_id)).to_have_count(0, timeout=WAIT)
    assert is_the_same(page)
    assert len(pushes) >= 2
    page.close()  # It would connect again, and the browser's console would report an error.
    for server in (shows, runs):
        server.stop()
        assert "Traceback" not in server.log


@pytest.mark.parametrize("fault", ["times out", "is away"])
def test_a_layer_that_fails_costs_no_page_its_socket(start_with_layer: StartServer, fault: str) -> None:
    """By default redis-py gives up a read after 5 s, before channels-redis does. Here it gives up after 0.2 s."""
    if fault == "times out":
        pytest.importorskip("channels_redis", reason="channels-redis is not installed: `make test` installs it")
    address = f"redis://127.0.0.1:{6379 if fault == 'times out' else find_port()}/0"
    server = start_with_layer(address, TESTS_LIVE="1", TESTS_REDIS_TIMEOUT="0.2")
    make_viewer(server)

    with closing(open_socket(server)) as opened:
        for _ in range(2):  # No task is fired: the page asks as often as without a socket.
            assert opened.next_message() == {"changed": True}
        server.process.send_signal(signal.SIGTERM)
        assert opened.wait_for_close() in HUNG_UP

    server.wait()
    assert "Traceback" not in server.log


@needs_browser
@pytest.mark.parametrize("name", ASGI_SERVERS)
def test_a_server_pushes_and_ends_with_pages_open(start: StartServer, open_at: OpenAs, name: str) -> None:
    """The server waits for no client: not for a browser, a program, or a client that no longer answers."""
    server = start(name, TESTS_LIVE="1", TESTS_DRAIN_TIMEOUT="20")
    make_viewer(server)
    page = open_pushed(open_at(server.address, "viewer", is_strict=False))

    with closing(open_socket(server)) as program, closing(open_socket(server)):
        [task_id] = server.fire("use_orm_until_drained", 1)
        assert program.next_message() == {"changed": True}
        expect(row_of(page, task_id)).to_be_visible(timeout=WAIT)
        server.process.send_signal(signal.SIGTERM)

        # Granian may drop a connection as soon as it receives the signal.
        assert program.wait_for_close() in (*HUNG_UP, *([LOST] if name == "granian" else []))
        assert server.wait() == EXIT_STATUS.get(name, 0)

    assert_one_task_was_drained(server)


@pytest.mark.parametrize("name", ["uvicorn", "hypercorn"])
def test_a_lifespan_in_the_router_hangs_up_as_well(start: StartServer, name: str) -> None:
    server = start(name, TESTS_LIVE="1", TESTS_UNWRAPPED="entry", TESTS_DRAIN_TIMEOUT="20")
    make_viewer(server)
    with closing(open_socket(server)) as program:
        server.fire("use_orm_until_drained", 1)
        assert program.next_message() == {"changed": True}
        server.process.send_signal(signal.SIGTERM)

        assert program.wait_for_close() in HUNG_UP
        assert server.wait() == EXIT_STATUS.get(name, 0)

    assert_one_task_was_drained(server)


def test_a_client_that_reads_nothing_blocks_no_other(start: StartServer) -> None:
    """Its buffers are full, so messages wait. Tasks run on, memory stays bounded, and the drain ends in time."""
    server = start("uvicorn", TESTS_LIVE="1", flags=("--timeout-graceful-shutdown", "2"))
    make_viewer(server)
    process = psutil.Process(server.process.pid)
    mute = open_socket(server, buffer=1024)
    mute.fill()
    before = process.memory_info().rss

    for _ in range(10):
        server.fire("succeed", times=500)
    server.wait_for_statuses({"SUCCESSFUL": 5000})
    server.fire("use_orm_until_drained", 1)
    server.wait_for_statuses({"SUCCESSFUL": 5000, "RUNNING": 1})

    assert process.memory_info().rss - before < 100_000_000  # The records of 5,000 tasks take most of it.
    with closing(open_socket(server)) as reads:
        server.process.send_signal(signal.SIGTERM)
        assert reads.wait_for_close() in HUNG_UP
    assert server.wait() == EXIT_STATUS["uvicorn"]
    mute.close()
    assert server.count_by_status() == {"SUCCESSFUL": 5001}
    assert "Traceback" not in server.log


TAKE_PERMISSION = (
    "from django.contrib.auth.models import User; User.objects.get(username='viewer').user_permissions.clear()"
)
LOG_OUT = "from django.contrib.sessions.models import Session; Session.objects.all().delete()"


@pytest.mark.parametrize("code", [TAKE_PERMISSION, LOG_OUT], ids=["permission", "session"])
def test_who_may_look_no_longer_is_hung_up_on(start: StartServer, code: str) -> None:
    server = start("uvicorn", TESTS_LIVE="1", TESTS_CHECK_EVERY="2")
    make_viewer(server)
    with closing(open_socket(server)) as opened:
        server.fire("succeed")
        assert opened.next_message() == {"changed": True}

        server.manage("shell", "-c", code)

        assert opened.wait_for_close() == FORBIDDEN
    server.stop()
    assert "Traceback" not in server.log
