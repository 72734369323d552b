"""
The nursery: a process that imports Django once and forks servers, so that a start costs milliseconds.

Each fork is a complete server: a process with uvicorn, a socket and signals of its own. Orders are JSON lines on
standard input, reports are JSON lines on standard output:

    {"start": "/folder/of/logs"}            → {"started": pid, "port": 8123}
    {"signal": 9, "pid": pid}               → nothing
    (a server ended)                        → {"ended": pid, "code": -9}
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import socket
import sys
from pathlib import Path
from typing import Any

MEMORY = 1 << 30  # Bytes of address space that a server may add to those at its start.
GRACE = 2  # Seconds that a stopped server gives its open requests.


def main() -> None:
    from tests.chaos.project.asgi import application  # Imports all of Django, once before the forks.

    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGCHLD, lambda *args: None)
    children: set[int] = set()
    buffer = b""
    while True:
        ready, _, _ = select.select([0, wake_read], [], [])
        if wake_read in ready:
            os.read(wake_read, 1024)
        for pid, code in _collect_ended(children):
            _report(ended=pid, code=code)
        if 0 in ready:
            received = os.read(0, 65536)
            if not received:
                break
            *lines, buffer = (buffer + received).split(b"\n")
            for line in lines:
                order = json.loads(line)
                if "start" in order:
                    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
                    pid = os.fork()
                    if pid == 0:
                        signal.set_wakeup_fd(-1)
                        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                        for descriptor in (wake_read, wake_write):
                            os.close(descriptor)
                        _serve(application, listener, Path(order["start"]))
                        return
                    children.add(pid)
                    _report(started=pid, port=listener.getsockname()[1])
                    listener.close()
                elif order["pid"] in children:  # Its exit status is not collected yet, so its number is still its own.
                    os.kill(order["pid"], order["signal"])
    for pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _collect_ended(children: set[int]) -> list[tuple[int, int]]:
    found = []
    for pid in list(children):
        if (ended := os.waitpid(pid, os.WNOHANG)) != (0, 0):
            children.discard(pid)
            found.append((pid, os.waitstatus_to_exitcode(ended[1])))
    return found


def _report(**values: Any) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def _serve(application: Any, listener: socket.socket, folder: Path) -> None:
    import uvicorn

    log = os.open(folder / f"server-{os.getpid()}.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    with open("/proc/self/statm", "rb") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    config = uvicorn.Config(
        application, log_level="warning", loop="asyncio", lifespan="on", timeout_graceful_shutdown=GRACE
    )
    uvicorn.Server(config).run([listener])


if __name__ == "__main__":
    main()
